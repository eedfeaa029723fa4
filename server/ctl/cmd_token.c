/* SPDX-License-Identifier: Apache-2.0 */
/* token ...: how machines come to belong here. */
#include <string.h>
#include <unistd.h>

#include "proto/common/id.h"
#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"

/* ---- create ---- */

/* "0.0.0.0:1501" listens everywhere: sources need a name of this machine instead. */
static bool
is_wildcard(const char *listen)
{
	return strncmp(listen, "0.0.0.0:", 8) == 0 || strncmp(listen, "[::]:", 5) == 0 || listen[0] == ':';
}

static const char *
port_of(const char *listen)
{
	const char *colon = strrchr(listen, ':');

	return colon == NULL ? "1501" : colon + 1;
}

static bool
has_port(const char *address)
{
	const char *bracket = strchr(address, ']'), *colon = strchr(bracket == NULL ? address : bracket, ':');

	return colon != NULL && strchr(colon + 1, ':') == NULL; /* a bare IPv6 address has many */
}

static int
server_address(const struct ctl *ctl, const char *listen, char *buf, size_t size)
{
	const char *given = ctl->values[OPT_ADDRESS];
	char host[256] = "";

	if (listen[0] == '\0' && given == NULL)
		return ctl_fail(EXIT_FAILED, "enrolment is switched off (server.enroll_listen in holdfastd.conf)");
	if (given != NULL && (has_port(given) || strcmp(port_of(listen), "1501") == 0))
		snprintf(buf, size, "%s", given);
	else if (given != NULL)
		snprintf(buf, size, "%s:%s", given, port_of(listen));
	else if (!is_wildcard(listen))
		snprintf(buf, size, "%s", listen);
	else if (gethostname(host, sizeof host - 1) == 0)
		snprintf(buf, size, "%s:%s", host, port_of(listen));
	else
		return ctl_fail(EXIT_FAILED, "this machine has no host name: give --address");
	return EXIT_DONE;
}

/* One or several, with commas between. What is printed is pasted into a shell. */
static int
check_address(const struct ctl *ctl)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]%,";
	const char *given = ctl->values[OPT_ADDRESS];

	if (given != NULL && (given[0] == '\0' || given[strspn(given, allowed)] != '\0'))
		return ctl_fail(EXIT_USAGE, "--address %s: HOST or HOST:PORT is wanted", given);
	return EXIT_DONE;
}

static int
bind_source(struct ctl *ctl, json_t *body)
{
	json_t *source;
	int code;

	if (!ctl_given(ctl, OPT_SOURCE))
		return EXIT_DONE;
	code = find_source(ctl, ctl->values[OPT_SOURCE], &source);
	if (code != EXIT_DONE)
		return code;
	json_object_set(body, "sourceServerID", json_object_get(source, "sourceServerID"));
	json_decref(source);
	return EXIT_DONE;
}

static int
print_token(const struct ctl *ctl, json_t *token)
{
	char address[512];
	int code;

	if (ctl_given(ctl, OPT_JSON))
		return print_json(token);
	code = server_address(ctl, pick_text(token, "enrollListen"), address, sizeof address);
	if (code == EXIT_DONE)
		printf("holdfast-agent enroll --server %s --token %s\n", address, pick_text(token, "token"));
	json_decref(token);
	return code;
}

int
run_token_create(struct ctl *ctl)
{
	json_t *body = json_object(), *token;
	int code = check_address(ctl);

	if (code == EXIT_DONE)
		code = bind_source(ctl, body);
	if (code != EXIT_DONE) {
		json_decref(body);
		return code;
	}
	if (ctl_given(ctl, OPT_LIFETIME))
		json_object_set_new(body, "lifetime", json_string(ctl->values[OPT_LIFETIME]));
	code = client_change(ctl->client, "POST", body, &token, "/v1/tokens");
	return code != EXIT_DONE ? code : print_token(ctl, token);
}

/* ---- list, revoke ---- */

static const struct table_column columns[] = {
    {"id", "TOKEN", false, false, 0},
    {"state", "STATE", false, false, 0},
    {"source", "SOURCE", false, false, 6},
    {"host", "HOST", false, true, 0},
    {"created", "CREATED", false, false, 0},
    {"expires", "EXPIRES", false, false, 0},
    {"used", "USED", false, false, 0},
};

static int
print_tokens(const struct ctl *ctl, const json_t *tokens, const json_t *sources)
{
	struct table *t = table_create(columns, sizeof columns / sizeof columns[0]);
	json_t *names = find_names(sources);
	int64_t now_ns = clock_real_ns();
	const json_t *token;
	size_t i;

	json_array_foreach (tokens, i, token) {
		table_add_row(t);
		cell_text(t, "id", token, "tokenID");
		cell_text(t, "state", token, "state");
		cell_text(t, "source", token, "sourceServerID");
		cell_host(t, "host", token, "sourceServerID", names);
		cell_relative(t, "created", token, "createdDateTime", now_ns);
		cell_relative(t, "expires", token, "expiresDateTime", now_ns);
		cell_relative(t, "used", token, "usedDateTime", now_ns);
	}
	json_decref(names);
	return print_table(ctl, t);
}

int
run_token_list(struct ctl *ctl)
{
	json_t *tokens = NULL, *sources = NULL;
	int code = client_list(ctl->client, &tokens, "/v1/tokens?");

	if (code == EXIT_DONE && ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:o}", "items", tokens));
	if (code == EXIT_DONE)
		code = find_sources(ctl, &sources);
	if (code == EXIT_DONE)
		code = print_tokens(ctl, tokens, sources);
	json_decref(sources);
	json_decref(tokens);
	return code;
}

int
run_token_revoke(struct ctl *ctl)
{
	json_t *answer;
	int code;

	if (!id_valid("tok", ctl->operands[0]))
		return ctl_fail(EXIT_USAGE,
		    "\"%s\": the id of a token is wanted, tok-...; holdfastctl token list shows them",
		    ctl->operands[0]);
	code = client_change(ctl->client, "DELETE", NULL, &answer, "/v1/tokens/%s", ctl->operands[0]);
	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(answer);
	printf("%s: %s\n", pick_text(answer, "tokenID"), pick_text(answer, "state"));
	json_decref(answer);
	return EXIT_DONE;
}
