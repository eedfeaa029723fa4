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
