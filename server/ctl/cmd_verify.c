/* SPDX-License-Identifier: Apache-2.0 */
/* verify: is what is staged what is on the source's disks? The server and the agent do it; this only watches. */
#include <stdio.h>
#include <string.h>

#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"
#include "server/ctl/waiting.h"

struct verifying {
	const char *source_id;
	json_t *source; /* as of the last look */
};

static int
look(void *arg, struct ctl *ctl, struct waiting *w)
{
	struct verifying *v = arg;
	json_t *source;
	int code = client_get(ctl->client, &source, "/v1/source-servers/%s", v->source_id);

	if (code != EXIT_DONE)
		return code;
	json_decref(v->source);
	v->source = source;
	w->total_bytes = (uint64_t)pick_integer(source, "verification.totalBytes");
	w->done_bytes = (uint64_t)pick_integer(source, "verification.doneBytes");
	w->is_over = strcmp(pick_text(source, "verification.state"), "RUNNING") != 0;
	return EXIT_DONE;
}

static void
print_volume(const json_t *disk)
{
	char differed[UNITS_TEXT_BYTES];
	const char *equal = pick_text(disk, "provedEqualDateTime");

	if (pick(disk, "verificationDifferingBytes") == NULL)
		return; /* not asked for */
	print_sentence(4, "%s: proved equal %s%s; %s had differed", pick_text(disk, "name"),
	    equal[0] != '\0' ? "at " : "never", equal,
	    size_format((uint64_t)pick_integer(disk, "verificationDifferingBytes"), differed));
}

static int
print_result(const struct ctl *ctl, const json_t *source)
{
	const char *state = pick_text(source, "verification.state");
	json_t *disk;
	size_t i;

	if (ctl_given(ctl, OPT_JSON)) {
		json_dumpf(source, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		json_array_foreach (pick(source, "dataReplicationInfo.replicatedDisks"), i, disk) {
			print_volume(disk);
		}
		print_sentence(4, "%s", pick_text(source, "verification.text"));
	}
	if (strcmp(state, "EQUAL") == 0)
		return EXIT_DONE;
	return strcmp(state, "CHANGING") == 0 ? EXIT_NOT_MET : EXIT_FAILED;
}

static int
begin(struct ctl *ctl, const char *id)
{
	json_t *body = ctl_given(ctl, OPT_VOLUME) ? json_pack("{s:s}", "volume", ctl->values[OPT_VOLUME]) : NULL;
	json_t *answer;
	int code = client_change(ctl->client, "POST", body, &answer, "/v1/source-servers/%s/verify", id);

	if (code != EXIT_DONE)
		return code;
	if (!ctl_given(ctl, OPT_WAIT) && ctl_given(ctl, OPT_JSON))
		return print_json(answer);
	if (!ctl_given(ctl, OPT_WAIT))
		print_sentence(
		    4, "%s: %s; how far it is: holdfastctl source show %s", id, pick_text(answer, "text"), id);
	json_decref(answer);
	return EXIT_DONE;
}

int
run_verify(struct ctl *ctl)
{
	struct verifying v = {0};
	json_t *source;
	int code = find_source(ctl, ctl->operands[0], &source);

	if (code != EXIT_DONE)
		return code;
	v.source_id = pick_text(source, "sourceServerID");
	code = begin(ctl, v.source_id);
	if (code == EXIT_DONE && ctl_given(ctl, OPT_WAIT)) {
		code = wait_until_over(ctl, "comparing", look, &v);
		if (code == EXIT_DONE)
			code = print_result(ctl, v.source);
	}
	json_decref(v.source);
	json_decref(source);
	return code;
}
