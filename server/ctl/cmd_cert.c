/* SPDX-License-Identifier: Apache-2.0 */
/* cert ..., ca ...: what proves who is who, and how long it does. */
#include <inttypes.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"

/* ---- list ---- */

static const struct table_column columns[] = {
    {"role", "ROLE", false, false, 0},
    {"subject", "SUBJECT", false, false, 0},
    {"host", "HOST", false, true, 6},
    {"state", "STATE", false, false, 0},
    {"begins", "VALID FROM", false, false, COLUMN_EXTRA},
    {"expires", "EXPIRES", false, false, 0},
    {"days", "DAYS LEFT", true, false, 0},
    {"serial", "SERIAL", false, true, 7},
    {"fingerprint", "SHA-256", false, true, COLUMN_EXTRA},
    {"issuer", "ISSUER SHA-256", false, true, COLUMN_EXTRA},
};

static enum table_mood
mood_of(const char *state)
{
	if (strcmp(state, "EXPIRED") == 0 || strcmp(state, "REVOKED") == 0)
		return MOOD_BAD;
	return strcmp(state, "EXPIRING") == 0 ? MOOD_WARN : MOOD_PLAIN;
}

static void
add_certificate(struct table *t, const json_t *c, const json_t *names, int64_t now_ns)
{
	const char *state = pick_text(c, "state");
	double days = json_number_value(pick(c, "daysLeft"));
	char human[32], exact[32];

	table_add_row(t);
	cell_text(t, "role", c, "role");
	cell_text(t, "subject", c, "subject");
	cell_text(t, "host", names, pick_text(c, "subject")); /* the CA and the server are no sources */
	table_set(t, "state", state, NULL, mood_of(state));
	cell_time(t, "begins", c, "notBeforeDateTime");
	cell_relative(t, "expires", c, "notAfterDateTime", now_ns);
	snprintf(human, sizeof human, "%.0f", days < 0 ? 0 : days);
	snprintf(exact, sizeof exact, "%.6f", days);
	table_set(t, "days", human, exact, MOOD_PLAIN);
	cell_text(t, "serial", c, "serialNumber");
	cell_text(t, "fingerprint", c, "fingerprint");
	cell_text(t, "issuer", c, "issuerFingerprint");
}

static int
print_certificates(const struct ctl *ctl, const json_t *list, const json_t *sources)
{
	struct table *t = table_create(columns, sizeof columns / sizeof columns[0]);
	json_t *names = find_names(sources);
	int64_t now_ns = clock_real_ns();
	const json_t *c;
	size_t i;

	json_array_foreach (list, i, c) {
		add_certificate(t, c, names, now_ns);
	}
	json_decref(names);
	return print_table(ctl, t);
}

int
run_cert_list(struct ctl *ctl)
{
	json_t *list = NULL, *sources = NULL;
	int code = client_list(ctl->client, &list, "/v1/certificates?");

	if (code == EXIT_DONE && ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:o}", "items", list));
	if (code == EXIT_DONE)
		code = find_sources(ctl, &sources);
	if (code == EXIT_DONE)
		code = print_certificates(ctl, list, sources);
	json_decref(sources);
	json_decref(list);
	return code;
}

/* ---- renew ---- */

static int
renew_server(struct ctl *ctl)
{
	char until[UNITS_TEXT_BYTES];
	json_t *c;
	int code = client_change(ctl->client, "POST", NULL, &c, "/v1/certificates/server/renew");

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(c);
	print_sentence(4, "server: serial %s, until %s; new connections are shown it, none was cut",
	    pick_text(c, "serialNumber"), time_format(pick_time_ns(c, "notAfterDateTime"), until));
	json_decref(c);
	return EXIT_DONE;
}

static int
renew_source(struct ctl *ctl, const json_t *source)
{
	const char *id = pick_text(source, "sourceServerID");
	json_t *answer;
	int code = client_change(ctl->client, "POST", NULL, &answer, "/v1/source-servers/%s/renew-certificate", id);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(answer);
	print_sentence(4, "%s: its agent was asked; holdfastctl cert list shows the new certificate", id);
	json_decref(answer);
	return EXIT_DONE;
}

int
run_cert_renew(struct ctl *ctl)
{
	json_t *source;
	int code;

	if (ctl->operand_count == 0 || strcmp(ctl->operands[0], "server") == 0)
		return renew_server(ctl);
	code = find_source(ctl, ctl->operands[0], &source);
	if (code != EXIT_DONE)
		return code;
	code = renew_source(ctl, source);
	json_decref(source);
	return code;
}

/* ---- the CA ---- */

static void
show_next(const json_t *next)
{
	json_t *source;
	size_t i;

	printf("\nnext CA:\nSHA-256 %s\n%sagents that trust it: %" PRId64 "; that need the old one: %" PRId64 "\n",
	    pick_text(next, "fingerprint"), pick_text(next, "certificate"), pick_integer(next, "agentsMoved"),
	    pick_integer(next, "agentsWaiting"));
	json_array_foreach (pick(next, "waiting"), i, source) {
		printf("  %s  %s\n", pick_text(source, "sourceServerID"), pick_text(source, "hostname"));
	}
	if (pick_integer(next, "agentsWaiting") == 0)
		ctl_note("nobody needs the old CA: holdfastctl ca retire lets it go");
}

int
run_ca_show(struct ctl *ctl)
{
	json_t *ca;
	int code = client_get(ctl->client, &ca, "/v1/ca");

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(ca);
	printf("SHA-256 %s\n%s", pick_text(ca, "fingerprint"), pick_text(ca, "certificate"));
	if (pick(ca, "next") != NULL)
		show_next(pick(ca, "next"));
	json_decref(ca);
	return EXIT_DONE;
}

/* Takes body. */
static int
change_ca(struct ctl *ctl, const char *path, json_t *body, const char *key, const char *what)
{
	json_t *answer;
	int code = client_change(ctl->client, "POST", body, &answer, "%s", path);

	if (code != EXIT_DONE)
		return code;
	if (ctl_given(ctl, OPT_JSON))
		return print_json(answer);
	print_sentence(4, "SHA-256 %s %s", pick_text(answer, key), what);
	json_decref(answer);
	return EXIT_DONE;
}

int
run_ca_rotate(struct ctl *ctl)
{
	return change_ca(ctl, "/v1/ca/rotate", NULL, "nextFingerprint",
	    "is made; agents that are connected take it at once; holdfastctl ca show says how far it is");
}

int
run_ca_retire(struct ctl *ctl)
{
	if (!ctl_confirm(ctl, "The old CA goes, for ever, and tokens that were not used yet with it%s.",
		ctl_given(ctl, OPT_FORCE) ? "; agents that know no other must be enrolled again" : ""))
		return EXIT_USAGE;
	return change_ca(ctl, "/v1/ca/retire", json_pack("{s:b}", "force", ctl_given(ctl, OPT_FORCE)), "fingerprint",
	    "is the only CA now");
}
