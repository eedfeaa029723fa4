/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/change.h"

#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"

int
print_change(const struct ctl *ctl, json_t *answer)
{
	if (ctl_given(ctl, OPT_JSON))
		return print_json(answer);
	print_sentence(4, "%s: %s", pick_text(answer, "sourceServerID"), pick_text(answer, "text"));
	json_decref(answer);
	return EXIT_DONE;
}

int
change_source(struct ctl *ctl, const char *route, json_t *body)
{
	json_t *source, *answer;
	int code = find_source(ctl, ctl->operands[0], &source);

	if (code != EXIT_DONE) {
		json_decref(body);
		return code;
	}
	code = client_change(
	    ctl->client, "POST", body, &answer, "/v1/source-servers/%s/%s", pick_text(source, "sourceServerID"), route);
	json_decref(source);
	return code == EXIT_DONE ? print_change(ctl, answer) : code;
}

/* What is said of it names the source: there may be many. */
static int
change_one(struct ctl *ctl, const char *method, const char *route, const char *id, json_t **ret_answer)
{
	char prefix[64];
	int code;

	snprintf(prefix, sizeof prefix, "holdfastctl: %s: ", id);
	ctl_say_to(NULL, prefix);
	code = client_change(ctl->client, method, NULL, ret_answer, "/v1/source-servers/%s/%s", id, route);
	ctl_say_to(NULL, NULL);
	return code;
}

int
change_each(struct ctl *ctl, const char *method, const char *route, const json_t *sources)
{
	json_t *answers = json_array(), *answer;
	int first = EXIT_DONE, code = EXIT_DONE;
	size_t i, count = json_array_size(sources);

	for (i = 0; i < count && !ctl_is_hopeless(code); i++) {
		code = change_one(ctl, method, route, pick_text(json_array_get(sources, i), "sourceServerID"), &answer);
		first = first == EXIT_DONE ? code : first;
		if (code != EXIT_DONE)
			continue;
		if (!ctl_given(ctl, OPT_JSON))
			print_change(ctl, json_incref(answer));
		json_array_append_new(answers, answer);
	}
	if (ctl_given(ctl, OPT_JSON))
		print_json(json_pack("{s:O}", "items", answers));
	json_decref(answers);
	return first;
}
