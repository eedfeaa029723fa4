/* SPDX-License-Identifier: Apache-2.0 */
/* export file: a volume at a point in time into a sparse file, with the caller's rights. The daemon reads and verifies,
 * we write; with --data-dir we read and verify ourselves (offline.h). */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/common/digest.h"
#include "proto/common/progress.h"
#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/extents.h"
#include "server/ctl/find.h"
#include "server/ctl/offline.h"
#include "server/ctl/partial.h"
#include "server/ctl/pick.h"

enum { BAD_TOLD_MAX = 10 }; /* FILE.bad has them all */

/* What is exported: the contents of the state file, too, so that a cut run goes on with the same point. */
struct plan {
	char source[32], pit[32], timestamp[UNITS_TEXT_BYTES], at[256], volume[256];
	uint64_t from;
};

struct export_run {
	struct ctl *ctl;
	struct offline *offline; /* NULL: the daemon reads */
	struct plan plan;
	struct partial *file;
	uint64_t size_bytes; /* of the volume */
	struct extents extents;
	struct progress progress;
	bool progress_begun;
	json_t *bad; /* --salvage: ranges that cannot be read; else NULL */
	int code;    /* of the sink: what partial_*() said */
};

/* ---- which point, which volume ---- */

static int
choose_volume(const struct ctl *ctl, const json_t *source, struct plan *plan)
{
	const json_t *disks = pick(source, "dataReplicationInfo.replicatedDisks");
	json_t *disk;
	size_t i;

	if (ctl_given(ctl, OPT_VOLUME)) {
		snprintf(plan->volume, sizeof plan->volume, "%s",
		    ctl->values[OPT_VOLUME]); /* old points know volumes that are gone */
		return EXIT_DONE;
	}
	if (json_array_size(disks) == 1) {
		snprintf(plan->volume, sizeof plan->volume, "%s", pick_text(json_array_get(disks, 0), "volumeID"));
		return EXIT_DONE;
	}
	if (json_array_size(disks) == 0)
		return ctl_fail(EXIT_NOT_FOUND, "no volume of this source is known now: %s",
		    pick_text(source, "dataReplicationInfo.stateReason"));
	(void)ctl_fail(EXIT_USAGE, "which volume? --volume takes one of these:");
	json_array_foreach (disks, i, disk) {
		fprintf(stderr, "  %s  %s\n", pick_text(disk, "volumeID"), pick_text(disk, "name"));
	}
	return EXIT_USAGE;
}

static int
get_source(struct export_run *run, json_t **ret_source)
{
	const char *text = run->ctl->operands[0];
	int code;

	if (run->offline == NULL)
		return find_source(run->ctl, text, ret_source);
	code = offline_open_source(run->offline, text);
	if (code == EXIT_DONE)
		*ret_source = offline_describe_source(run->offline);
	return code;
}

static int
get_pits(struct export_run *run, json_t **ret_pits)
{
	if (run->offline == NULL)
		return find_pits(run->ctl, run->plan.source, ret_pits);
	*ret_pits = offline_list_pits(run->offline);
	return EXIT_DONE;
}

/* The point that --at means now. */
static int
choose_pit(struct export_run *run)
{
	struct plan *plan = &run->plan;
	char gap[UNITS_TEXT_BYTES];
	const json_t *pit;
	json_t *pits;
	int64_t gap_ns;
	int code = get_pits(run, &pits);

	if (code != EXIT_DONE)
		return code;
	pit = match_pit(pits, plan->at, ctl_given(run->ctl, OPT_FUZZY), clock_real_ns(), &gap_ns, &code);
	if (pit == NULL && run->offline != NULL)
		ctl_note("without holdfastd they are shown by: holdfastctl pit list %s --data-dir %s%s", plan->source,
		    run->ctl->values[OPT_DATA_DIR],
		    offline_knows_names(run->offline) ? "" : "; without the catalog they have ids and times alone");
	if (pit != NULL) {
		snprintf(plan->pit, sizeof plan->pit, "%s", pick_text(pit, "pointInTimeID"));
		snprintf(plan->timestamp, sizeof plan->timestamp, "%s", pick_text(pit, "timestamp"));
		ctl_note("point %s of %s (%s)%s%s%s", plan->pit, plan->timestamp, pick_text(pit, "consistency"),
		    gap_ns == 0 ? "" : ", ", gap_ns == 0 ? "" : duration_format(gap_ns, gap),
		    gap_ns == 0                       ? ""
		    : strcmp(plan->at, "latest") == 0 ? " old"
						      : " before the time asked for");
	}
	json_decref(pits);
	return code;
}

/* Does the state file speak of the same thing? Then its point stands, even if --at would mean a newer one today. A cut
 * may have come inside of a block: reading goes on at its beginning. */
static bool
resume_plan(struct plan *plan, const struct partial *file)
{
	const json_t *state = partial_state(file);

	if (state == NULL || pick_bool(state, "salvage") || strcmp(pick_text(state, "source"), plan->source) != 0 ||
	    strcmp(pick_text(state, "volume"), plan->volume) != 0 || strcmp(pick_text(state, "at"), plan->at) != 0)
		return false;
	snprintf(plan->pit, sizeof plan->pit, "%s", pick_text(state, "pit"));
	snprintf(plan->timestamp, sizeof plan->timestamp, "%s", pick_text(state, "timestamp"));
	plan->from = (uint64_t)pick_integer(state, "offset") / BLOCK_BYTES * BLOCK_BYTES;
	return true;
}

/* Is the point of a cut run still there? */
static int
pit_exists(struct export_run *run, bool *ret_exists)
{
	json_t *pits, *pit;
	size_t i;
	int code = get_pits(run, &pits);

	if (code != EXIT_DONE)
		return code;
	*ret_exists = false;
	json_array_foreach (pits, i, pit) {
		*ret_exists |= strcmp(pick_text(pit, "pointInTimeID"), run->plan.pit) == 0;
	}
	json_decref(pits);
	return EXIT_DONE;
}

static int
make_plan(struct export_run *run)
{
	struct plan *plan = &run->plan;
	struct ctl *ctl = run->ctl;
	char done[UNITS_TEXT_BYTES];
	json_t *source;
	bool exists = false;
	int code = get_source(run, &source);

	if (code != EXIT_DONE)
		return code;
	snprintf(plan->source, sizeof plan->source, "%s", pick_text(source, "sourceServerID"));
	snprintf(plan->at, sizeof plan->at, "%s", ctl_given(ctl, OPT_AT) ? ctl->values[OPT_AT] : "latest");
	code = choose_volume(ctl, source, plan);
	json_decref(source);
	if (code == EXIT_DONE && run->bad == NULL && resume_plan(plan, run->file))
		code = pit_exists(run, &exists);
	if (code != EXIT_DONE)
		return code;
	if (exists) {
		ctl_note(
		    "going on after %s with point %s of %s", size_format(plan->from, done), plan->pit, plan->timestamp);
		return EXIT_DONE;
	}
	plan->from = 0;
	return choose_pit(run);
}

/* ---- the file ---- */

static enum progress_mode
progress_mode(const struct ctl *ctl)
{
	if (ctl_given(ctl, OPT_NO_PROGRESS))
		return PROGRESS_NONE;
	return ctl_given(ctl, OPT_PROGRESS) ? (enum progress_mode)progress_mode_parse(ctl->values[OPT_PROGRESS])
					    : PROGRESS_AUTO;
}

static void
show_progress(struct export_run *run)
{
	progress_update(&run->progress, partial_offset(run->file), clock_monotonic_ns());
}

static int
on_data(void *arg, const unsigned char *bytes, size_t len)
{
	struct export_run *run = arg;

	run->code = partial_write(run->file, bytes, len);
	show_progress(run);
	return run->code;
}

static int
on_hole(void *arg, uint64_t len)
{
	struct export_run *run = arg;

	run->code = partial_skip(run->file, len);
	show_progress(run);
	return run->code;
}

/* One that goes on where the last one ended is the same. */
static int
on_bad(void *arg, uint64_t len)
{
	struct export_run *run = arg;
	uint64_t offset = partial_offset(run->file);
	json_t *last = json_array_get(run->bad, json_array_size(run->bad) - 1);
	int64_t end = pick_integer(last, "offset") + pick_integer(last, "length");

	if (last != NULL && (uint64_t)end == offset)
		json_object_set_new(last, "length", json_integer(pick_integer(last, "length") + (json_int_t)len));
	else
		json_array_append_new(
		    run->bad, json_pack("{s:I, s:I}", "offset", (json_int_t)offset, "length", (json_int_t)len));
	return on_hole(arg, len);
}

static int
begin_file(struct export_run *run, uint64_t size_bytes)
{
	const char *slash = strrchr(run->ctl->values[OPT_OUTPUT], '/');
	const char *title = slash == NULL ? run->ctl->values[OPT_OUTPUT] : slash + 1;
	const struct plan *p = &run->plan;
	json_t *what = json_pack("{s:b, s:s, s:s, s:s, s:s, s:s, s:I}", "salvage", run->bad != NULL, "source",
	    p->source, "pit", p->pit, "timestamp", p->timestamp, "volume", p->volume, "at", p->at, "sizeBytes",
	    (json_int_t)size_bytes);
	int code = partial_begin(run->file, what, p->from, size_bytes);

	json_decref(what);
	run->size_bytes = size_bytes;
	progress_begin(
	    &run->progress, progress_mode(run->ctl), STDERR_FILENO, title, p->from, size_bytes, clock_monotonic_ns());
	run->progress_begun = true;
	return code;
}

static struct extents_sink
file_sink(struct export_run *run)
{
	return (struct extents_sink){
	    .data = on_data, .hole = on_hole, .bad = run->bad != NULL ? on_bad : NULL, .arg = run};
}

/* ---- read by the daemon ---- */

static int
on_begin(void *arg, struct client *client)
{
	struct export_run *run = arg;
	const struct extents_sink sink = file_sink(run);
	const char *size_text = client_header(client, "X-Holdfast-Volume-Bytes");
	uint64_t size;

	if (size_text == NULL)
		return ctl_fail(EXIT_FAILED,
		    "the daemon does not say how large the volume is: it is no holdfastd, or a very different one");
	size = strtoull(size_text, NULL, 10);
	extents_init(&run->extents, run->plan.from, size, &sink);
	return begin_file(run, size);
}

static int
on_bytes(void *arg, const unsigned char *bytes, size_t len)
{
	struct export_run *run = arg;
	int r = extents_feed(&run->extents, bytes, len);

	return r == -EPROTO ? ctl_fail(EXIT_FAILED, "%s", run->extents.error) : r;
}

static int
read_from_daemon(struct export_run *run)
{
	struct client_stream stream = {.admin = true, .begin = on_begin, .bytes = on_bytes, .arg = run};
	char *volume = client_escape(run->ctl->client, run->plan.volume), path[2048];
	int code;

	snprintf(path, sizeof path, "/v1/points-in-time/%s/volumes/%s/data?sourceServerID=%s&from=%" PRIu64 "%s",
	    run->plan.pit, volume, run->plan.source, run->plan.from, run->bad != NULL ? "&salvage=1" : "");
	free(volume);
	code = client_stream(run->ctl->client, &stream, path);
	if (code == EXIT_DONE && !extents_complete(&run->extents))
		code = ctl_fail(EXIT_FAILED, "the stream was cut");
	return code;
}

/* ---- read here ---- */

static int
read_offline(struct export_run *run)
{
	const struct extents_sink sink = file_sink(run);
	uint64_t size;
	int code = offline_open_volume(run->offline, run->plan.volume, run->plan.pit, &size);

	if (code == EXIT_DONE)
		code = begin_file(run, size);
	return code == EXIT_DONE ? offline_read(run->offline, run->plan.from, &sink) : code;
}

/* ---- the command ---- */

static int
say_how_to_go_on(struct export_run *run, int code)
{
	if (!run->progress_begun || partial_sync(run->file) != EXIT_DONE)
		return code;
	if (run->bad != NULL)
		return code; /* it begins anew */
	ctl_note(
	    "%s.partial holds what came so far; the same command goes on from there", run->ctl->values[OPT_OUTPUT]);
	return code;
}

static int
check_options(struct ctl *ctl)
{
	if (!ctl_given(ctl, OPT_OUTPUT) || ctl->values[OPT_OUTPUT][0] == '\0')
		return ctl_fail(EXIT_USAGE, "where to? -o FILE");
	if (ctl_given(ctl, OPT_PROGRESS) && progress_mode_parse(ctl->values[OPT_PROGRESS]) < 0)
		return ctl_fail(
		    EXIT_USAGE, "--progress %s: auto, bar, plain, lines or none is wanted", ctl->values[OPT_PROGRESS]);
	return EXIT_DONE;
}

static bool
is_whole(const struct export_run *run)
{
	return run->bad == NULL || json_array_size(run->bad) == 0;
}

/* FILE.bad: a line for each range that cannot be read, first byte and length; and the first few to people. */
static int
write_bad(struct export_run *run)
{
	const char *output = run->ctl->values[OPT_OUTPUT];
	char path[PATH_MAX];
	json_t *range;
	size_t i;
	FILE *f;

	if ((size_t)snprintf(path, sizeof path, "%s.bad", output) >= sizeof path)
		return ctl_fail(EXIT_USAGE, "%s: the path is too long", output);
	f = fopen(path, "we");
	if (f == NULL)
		return ctl_fail(EXIT_FAILED, "%s: %m", path);
	json_array_foreach (run->bad, i, range) {
		int64_t offset = pick_integer(range, "offset"), length = pick_integer(range, "length");

		fprintf(f, "%" PRId64 " %" PRId64 "\n", offset, length);
		if (i < BAD_TOLD_MAX)
			ctl_note(
			    "offset %" PRId64 ", %" PRId64 " bytes: cannot be read, zeros instead", offset, length);
	}
	if (i > BAD_TOLD_MAX)
		ctl_note("and %zu more such ranges", i - BAD_TOLD_MAX);
	if (fflush(f) != 0 || fsync(fileno(f)) < 0 || fclose(f) != 0)
		return ctl_fail(EXIT_FAILED, "%s: %m", path);
	return EXIT_DONE;
}

/* A file that is not whole never has the name that was asked for. */
static int
finish_file(struct export_run *run)
{
	int code = is_whole(run) ? EXIT_DONE : write_bad(run);

	return code == EXIT_DONE ? partial_finish(run->file, is_whole(run) ? "" : ".salvaged") : code;
}

static int
print_result(struct export_run *run)
{
	const struct plan *p = &run->plan;
	bool whole = is_whole(run);
	char path[PATH_MAX];
	json_t *result;

	snprintf(path, sizeof path, "%s%s", run->ctl->values[OPT_OUTPUT], whole ? "" : ".salvaged");
	if (!ctl_given(run->ctl, OPT_JSON)) {
		printf("%s\n", path);
		return whole ? EXIT_DONE
			     : ctl_fail(EXIT_DAMAGED, "%s is not whole: %s.bad lists what could not be read", path,
				   run->ctl->values[OPT_OUTPUT]);
	}
	result = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:b}", "sourceServerID", p->source, "pointInTimeID", p->pit,
	    "timestamp", p->timestamp, "volume", p->volume, "file", path, "sizeBytes", (json_int_t)run->size_bytes,
	    "whole", whole);
	if (run->bad != NULL)
		json_object_set(result, "badRanges", run->bad);
	print_json(result);
	return whole ? EXIT_DONE : EXIT_DAMAGED;
}

static int
export_volume(struct export_run *run)
{
	int code = make_plan(run);

	if (code == EXIT_DONE)
		code = run->offline == NULL ? read_from_daemon(run) : read_offline(run);
	if (run->progress_begun)
		progress_end(&run->progress, partial_offset(run->file), clock_monotonic_ns());
	if (code != EXIT_DONE)
		return say_how_to_go_on(run, code);
	code = finish_file(run);
	return code == EXIT_DONE ? print_result(run) : code;
}

int
run_export_file(struct ctl *ctl)
{
	struct export_run run = {.ctl = ctl};
	int code = check_options(ctl);

	if (ctl_given(ctl, OPT_SALVAGE))
		run.bad = json_array();
	if (code == EXIT_DONE && ctl_given(ctl, OPT_DATA_DIR))
		code = offline_open(ctl->values[OPT_DATA_DIR], &run.offline);
	if (code == EXIT_DONE)
		code = partial_open(ctl->values[OPT_OUTPUT], ctl_given(ctl, OPT_FORCE), &run.file);
	if (code == EXIT_DONE)
		code = export_volume(&run);
	partial_close(run.file);
	offline_close(run.offline);
	json_decref(run.bad);
	return code;
}
