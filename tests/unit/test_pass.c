/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's rounds over real image files (and, as root, loop devices), against a model of the server. */
#include "tests/lib/fake_link.h"

#include <errno.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "agent/disks.h"
#include "agent/pass.h"
#include "agent/reader.h"
#include "proto/common/units.h"
#include "tests/lib/dice.h"
#include "tests/lib/loop.h"
#include "tests/lib/scratch.h"

enum { MIB = 1024 * 1024, DISKS = 2 };

struct rig {
	char directory[64];
	struct link *link;
	struct dice dice;
	struct pass_config config;
	struct pass_volume volumes[DISKS];
	char names[DISKS][8], identities[DISKS][NAME_BYTES], paths[DISKS][PATH_BYTES];
	unsigned changes_told;
	atomic_bool stop;

	/* Called at the end of every round with its number, 1 first: what the test does to the disks. Stops the agent
	 * by link_stop(). */
	void (*script)(struct rig *rig, unsigned round);
	unsigned round;
};

static void
on_report(void *arg, const struct message_report *report)
{
	struct rig *rig = arg;

	if (report->activity == ACTIVITY_IDLE && rig->script != NULL)
		rig->script(rig, ++rig->round);
}

static void
on_volume_changed(void *arg, size_t volume, const char *path, uint64_t size_bytes)
{
	struct rig *rig = arg;

	assert_true(rig->link->waits_for_source); /* the disks are looked at: one that hangs may hang there */
	rig->changes_told++;
	snprintf(rig->paths[volume], sizeof rig->paths[volume], "%s", path);
	rig->volumes[volume].size_bytes = size_bytes;
}

static int
create_rig(void **state)
{
	struct rig *rig = calloc(1, sizeof *rig);

	assert_non_null(rig);
	scratch_make(rig->directory, sizeof rig->directory, "test_pass");
	rig->dice = dice_from_environment();
	rig->link = fake_create(rig->directory);
	rig->config = (struct pass_config){.volumes = rig->volumes,
	    .progress = PROGRESS_NONE,
	    .stop = &rig->stop,
	    .on_report = on_report,
	    .on_volume_changed = on_volume_changed,
	    .arg = rig};
	*state = rig;
	return 0;
}

static int
destroy_rig(void **state)
{
	struct rig *rig = *state;

	fake_destroy(rig->link);
	assert_int_equal(scratch_remove(rig->directory), 0);
	free(rig);
	return 0;
}

static void
path_in(const struct rig *rig, const char *name, char *ret_path)
{
	snprintf(ret_path, PATH_BYTES, "%s/%s", rig->directory, name);
}

/* Write len random bytes (never a block of zeros) at offset. */
static void
scribble(struct rig *rig, const char *path, uint64_t offset, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	unsigned char *buf = malloc(len);

	assert_true(fd >= 0);
	assert_non_null(buf);
	for (size_t i = 0; i < len; i++)
		buf[i] = (unsigned char)(dice_next(&rig->dice) | 1);
	assert_int_equal(pwrite(fd, buf, len, (off_t)offset), len);
	assert_int_equal(fsync(fd), 0);
	free(buf);
	close(fd);
}

static void
punch(const char *path, uint64_t offset, uint64_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len), 0);
	close(fd);
}

/* A new sparse image file of size bytes. */
static void
make_image(struct rig *rig, const char *name, uint64_t size, char *ret_path)
{
	int fd;

	path_in(rig, name, ret_path);
	fd = open(ret_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static void
add_volume(struct rig *rig, const char *path)
{
	size_t i = rig->config.volume_count++;
	struct disk_info disk;

	assert_int_equal(disks_identify(path, &disk, NULL), 0);
	snprintf(rig->names[i], sizeof rig->names[i], "disk%zu", i);
	snprintf(rig->paths[i], sizeof rig->paths[i], "%s", path);
	snprintf(rig->identities[i], sizeof rig->identities[i], "%s", disk.identity);
	rig->volumes[i] = (struct pass_volume){.name = rig->names[i],
	    .identity = rig->identities[i],
	    .path = rig->paths[i],
	    .size_bytes = disk.size_bytes};
}

/* Run the agent until the script stops it. */
static void
run_script(struct rig *rig, void (*script)(struct rig *rig, unsigned round))
{
	struct hf_error err = {0};
	int r;

	rig->script = script;
	rig->round = 0;
	r = pass_run(rig->link, &rig->config, &err);
	if (r != -ECANCELED)
		print_message("pass_run: %s\n", err.text);
	assert_int_equal(r, -ECANCELED);
}

static void
run_once(struct rig *rig)
{
	struct hf_error err = {0};
	int r;

	rig->config.once = true;
	r = pass_run(rig->link, &rig->config, &err);
	if (r != 0)
		print_message("pass_run: %s\n", err.text);
	assert_int_equal(r, 0);
	rig->config.once = false;
}

/* Byte for byte, and the copy not one byte longer. */
static void
assert_same_bytes(const struct rig *rig, size_t volume, const char *path)
{
	static unsigned char a[MIB], b[MIB];
	const struct fake_volume *v = &rig->link->volumes[volume];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t at = 0;
	ssize_t n;

	assert_true(fd >= 0);
	while ((n = pread(fd, a, sizeof a, (off_t)at)) > 0) {
		assert_int_equal(pread(v->fd, b, (size_t)n, (off_t)at), n);
		assert_memory_equal(a, b, n);
		at += (uint64_t)n;
	}
	assert_int_equal(at, v->size_bytes);
	close(fd);
}

static const struct message_checkpoint *
checkpoint(const struct rig *rig, size_t i)
{
	assert_in_range(i, 0, rig->link->checkpoint_count - 1);
	return &rig->link->checkpoints[i];
}

/* ---- first fill and passes ---- */

static void
a_fill_copies_every_byte_and_is_marked_crash_consistent(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	/* An odd size, data at both ends, blocks of written zeros, a hole of a whole chunk and smaller ones. */
	make_image(rig, "a.img", 600ull * MIB + 12345, path);
	scribble(rig, path, 0, 3 * MIB + 4096);
	scribble(rig, path, 5 * MIB + 512, 100000);
	scribble(rig, path, 600ull * MIB + 12345 - 5000, 5000);
	add_volume(rig, path);
	run_once(rig);
	assert_same_bytes(rig, 0, path);
	assert_int_equal(rig->link->checkpoint_count, 1);
	assert_int_equal(checkpoint(rig, 0)->consistency, CONSISTENCY_CRASH);
	assert_int_equal(checkpoint(rig, 0)->bytes_differing, 0);
	assert_int_equal(rig->link->payload_blocks, 769 + 26 + 2);
	assert_true(rig->link->payload_blocks == rig->link->fill_blocks);
}

static void
an_empty_disk_costs_no_payload(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 64 * MIB, path);
	add_volume(rig, path);
	run_once(rig);
	assert_int_equal(rig->link->payload_blocks, 0);
	assert_int_equal(rig->link->frames, 1);
	assert_int_equal(rig->link->volumes[0].frontier, 64 * 256);
}

static void
change_and_stop(struct rig *rig, unsigned round)
{
	switch (round) {
	case 1: /* filled and passed */
		assert_int_equal(rig->link->checkpoint_count, 1);
		scribble(rig, rig->paths[0], 7 * MIB + 8192, 4096);
		scribble(rig, rig->paths[0], 9 * MIB - 4096, 8192);
		punch(rig->paths[0], 3 * MIB, 8192);
		rig->link->payload_blocks = rig->link->zero_extents = 0;
		return;
	case 2:
		assert_int_equal(rig->link->payload_blocks, 3);
		assert_int_equal(rig->link->zero_extents, 1);
		assert_int_equal(rig->link->checkpoint_count, 2);
		return;
	case 3: assert_int_equal(rig->link->checkpoint_count, 3); return;
	default: link_stop(rig->link);
	}
}

static void
a_pass_sends_what_differs_and_only_that(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 12 * MIB, path);
	scribble(rig, path, 0, 12 * MIB);
	add_volume(rig, path);
	run_script(rig, change_and_stop);
	assert_same_bytes(rig, 0, path);
	assert_int_equal(checkpoint(rig, 0)->consistency, CONSISTENCY_CRASH);
	assert_int_equal(checkpoint(rig, 1)->consistency, CONSISTENCY_FUZZY);
	assert_int_equal(checkpoint(rig, 1)->bytes_differing, 5 * 4096);
	assert_int_equal(checkpoint(rig, 1)->bytes_read, 12 * MIB);
	assert_int_equal(checkpoint(rig, 2)->consistency, CONSISTENCY_CRASH);
	assert_true(checkpoint(rig, 2)->clock_ns > checkpoint(rig, 1)->clock_ns);
}

/* ---- backlog ---- */

static uint64_t backlog_at_flush[DISKS];
static unsigned flushes;

static void
note_backlog(struct link *l)
{
	flushes++;
	for (size_t i = 0; i < DISKS; i++)
		backlog_at_flush[i] = l->volumes[i].backlog_bytes;
	if (flushes == 1) { /* the first disk was sent, the second not begun */
		assert_int_equal(backlog_at_flush[0], 0);
		assert_int_equal(backlog_at_flush[1], 3 * MIB);
	}
}

static void
change_the_second_disk(struct rig *rig, unsigned round)
{
	assert_int_equal(rig->link->volumes[0].backlog_bytes, 0);
	assert_int_equal(rig->link->volumes[1].backlog_bytes, 0);
	switch (round) {
	case 1:
		scribble(rig, rig->paths[1], MIB + 4096, 8192);
		punch(rig->paths[1], 2 * MIB, 4096);
		return;
	case 2:
		assert_int_equal(backlog_at_flush[0], 0);
		assert_int_equal(backlog_at_flush[1], 3 * 4096);
		link_stop(rig->link);
	}
}

static void
the_backlog_is_told_by_the_disk_it_is_of_until_the_checkpoint(void **state)
{
	struct rig *rig = *state;
	char a[PATH_BYTES], b[PATH_BYTES];

	make_image(rig, "a.img", 2 * MIB, a);
	make_image(rig, "b.img", 3 * MIB, b);
	scribble(rig, a, 0, 2 * MIB);
	scribble(rig, b, 0, 3 * MIB);
	add_volume(rig, a);
	add_volume(rig, b);
	rig->link->on_flush = note_backlog;
	flushes = 0;
	run_script(rig, change_the_second_disk);
	assert_true(flushes > 2);
}

static void
ask_in_round_two(struct rig *rig, unsigned round)
{
	static int64_t unchanged_ns;

	switch (round) {
	case 1: return;
	case 2:
		assert_int_equal(rig->link->checkpoint_count, 1);
		unchanged_ns = rig->link->unchanged_until_ns;
		assert_true(unchanged_ns > checkpoint(rig, 0)->clock_ns);
		rig->link->requests[0] = 77;
		rig->link->requests[1] = 78;
		rig->link->request_count = 2;
		return;
	default: assert_true(rig->link->unchanged_until_ns > unchanged_ns); link_stop(rig->link);
	}
}

static void
an_unchanged_disk_sends_a_checkpoint_only_when_asked(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 2 * MIB, path);
	scribble(rig, path, 0, MIB);
	add_volume(rig, path);
	run_script(rig, ask_in_round_two);
	assert_int_equal(rig->link->checkpoint_count, 2);
	assert_int_equal(checkpoint(rig, 1)->consistency, CONSISTENCY_CRASH);
	assert_int_equal(checkpoint(rig, 1)->request_id_count, 2);
	assert_int_equal(checkpoint(rig, 1)->request_ids[0], 77);
	assert_int_equal(checkpoint(rig, 1)->request_ids[1], 78);
}

static void
change_and_ask(struct rig *rig, unsigned round)
{
	if (round == 1) {
		scribble(rig, rig->paths[0], 0, 4096);
		rig->link->requests[0] = 5;
		rig->link->request_count = 1;
	}
	if (rig->link->checkpoint_count == 3)
		link_stop(rig->link);
	assert_true(round < 4);
}

static void
change_and_compare(struct rig *rig, unsigned round)
{
	if (round == 1)
		scribble(rig, rig->paths[0], 0, 3 * 4096);
	if (rig->link->checkpoint_count == 3)
		link_stop(rig->link);
	if (round < 3) {
		rig->link->requests[0] = round;
		rig->link->request_count = 1;
		rig->link->compare_requested = true;
	}
	assert_true(round < 4);
}

/* Two volumes, one of which has changed: what differs is counted in the very next pass, which proves the other equal;
 * the pass after that proves both. */
static void
a_request_to_compare_is_answered_with_what_the_next_pass_found(void **state)
{
	struct rig *rig = *state;
	const struct message_checkpoint *first, *second;
	char a[PATH_BYTES], b[PATH_BYTES];

	make_image(rig, "a.img", 2 * MIB, a);
	make_image(rig, "b.img", MIB, b);
	scribble(rig, b, 0, MIB);
	add_volume(rig, a);
	add_volume(rig, b);
	rig->config.interval_ns = 3600 * NS_PER_SECOND;
	run_script(rig, change_and_compare);
	assert_int_equal(checkpoint(rig, 0)->compared_count, 0); /* nobody had asked */
	first = checkpoint(rig, 1);
	second = checkpoint(rig, 2);
	assert_int_equal(first->request_ids[0], 1);
	assert_int_equal(first->compared_count, 2);
	assert_int_equal(first->compared[0].bytes_differing, 3 * 4096);
	assert_int_equal(first->compared[1].bytes_differing, 0);
	assert_int_equal(first->compared[1].bytes_read, MIB);
	assert_false(first->compared[0].equal);
	assert_true(first->compared[1].equal);
	assert_int_equal(second->compared_count, 2);
	assert_true(second->compared[0].equal && second->compared[1].equal);
	assert_int_not_equal(second->compared[0].volume, second->compared[1].volume);
}

static void
a_request_after_a_change_gets_the_crash_consistent_checkpoint(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 2 * MIB, path);
	add_volume(rig, path);
	rig->config.interval_ns = 3600 * NS_PER_SECOND; /* the passes come because somebody waits */
	run_script(rig, change_and_ask);
	assert_int_equal(checkpoint(rig, 1)->consistency, CONSISTENCY_FUZZY);
	assert_int_equal(checkpoint(rig, 1)->request_id_count, 0);
	assert_int_equal(checkpoint(rig, 2)->consistency, CONSISTENCY_CRASH);
	assert_int_equal(checkpoint(rig, 2)->request_id_count, 1);
	assert_int_equal(checkpoint(rig, 2)->request_ids[0], 5);
}

static void
always_change(struct rig *rig, unsigned round)
{
	scribble(rig, rig->paths[0], (round % 4) * MIB, 4096);
	if (round == 6)
		link_stop(rig->link);
}

static void
a_disk_that_changes_in_every_pass_is_only_fuzzy(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 4 * MIB, path);
	add_volume(rig, path);
	run_script(rig, always_change);
	assert_int_equal(rig->link->checkpoint_count, 6);
	for (size_t i = 1; i < 6; i++)
		assert_int_equal(checkpoint(rig, i)->consistency, CONSISTENCY_FUZZY);
	assert_int_equal(rig->link->unchanged_until_ns, 0);
}

static void
differences_everywhere_are_all_sent(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];
	uint64_t size = 300ull * MIB + 4096 * 3 + 17;

	/* More differing nodes than questions, pieces and frames hold; then everything but a few becomes a hole. */
	make_image(rig, "a.img", size, path);
	scribble(rig, path, 0, 40 * MIB);
	add_volume(rig, path);
	run_once(rig);
	fake_forget_agent(rig->link);
	for (int i = 0; i < 200; i++)
		scribble(rig, path, dice_below(&rig->dice, size - 20000), 1 + dice_below(&rig->dice, 20000));
	run_once(rig);
	assert_same_bytes(rig, 0, path);
	punch(path, 4 * MIB + 4096, 290 * MIB);
	fake_forget_agent(rig->link);
	run_once(rig);
	assert_same_bytes(rig, 0, path);
}

static void
a_restarted_agent_compares_and_begins_with_what_changed_lately(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 40 * MIB, path);
	scribble(rig, path, 0, 40 * MIB);
	add_volume(rig, path);
	run_once(rig);
	fake_forget_agent(rig->link);
	rig->link->recent = (struct message_recent_answer){.count = 4, .nodes = {33, 20, 34, 99999}};
	scribble(rig, path, 33 * MIB + 4096, 4096);
	run_once(rig);
	assert_same_bytes(rig, 0, path);
	assert_int_equal(rig->link->payload_blocks, 1);
	assert_int_equal(rig->link->asked[0].level, 2);
	assert_int_equal(rig->link->asked[0].first, 20);
	assert_int_equal(rig->link->asked[1].first, 33);
	assert_int_equal(rig->link->asked[1].count, 2);
	/* The first comparison had only one reading of the disk to go by. */
	assert_int_equal(checkpoint(rig, 0)->consistency, CONSISTENCY_FUZZY);
	assert_int_equal(checkpoint(rig, 1)->consistency, CONSISTENCY_CRASH);
	assert_int_equal(rig->link->checkpoint_count, 2);
}

static void
a_16_tib_sparse_disk_costs_what_is_on_it(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];
	uint64_t size = (16ull << 40) - 4096;
	int64_t start_ns = clock_monotonic_ns();

	make_image(rig, "a.img", size, path);
	scribble(rig, path, 0, 8192);
	scribble(rig, path, 7ull << 40, MIB);
	scribble(rig, path, size - 4096, 4096);
	add_volume(rig, path);
	run_once(rig);
	assert_int_equal(rig->link->payload_blocks, 2 + 256 + 1);
	assert_in_range(checkpoint(rig, 0)->bytes_read, 3 * MIB - 4096, 3 * MIB);
	assert_in_range(rig->link->asked_count, 3, 20);
	fake_forget_agent(rig->link);
	punch(path, 7ull << 40, MIB);
	scribble(rig, path, 3ull << 40, 4096);
	run_once(rig);
	assert_int_equal(rig->link->payload_blocks, 1);
	assert_int_equal(rig->link->zero_extents, 1);
	assert_int_equal(rig->link->volumes[0].frontier, size / 4096);
	assert_in_range(clock_monotonic_ns() - start_ns, 0, 20 * NS_PER_SECOND);
}

static void
a_lost_stream_is_begun_anew_and_nothing_is_lost(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 30 * MIB, path);
	scribble(rig, path, 0, 30 * MIB);
	add_volume(rig, path);
	rig->link->lose_after_frames = 11;
	run_once(rig);
	assert_int_equal(rig->link->restarts, 2);
	assert_int_equal(rig->link->fill_blocks, 30 * 256); /* not from the beginning */
	assert_same_bytes(rig, 0, path);
	assert_int_equal(checkpoint(rig, rig->link->checkpoint_count - 1)->consistency, CONSISTENCY_CRASH);
}

static void
refuse_a_compare(struct rig *rig, unsigned round)
{
	if (round == 1) {
		rig->link->refuse_status = -EIO;
		scribble(rig, rig->paths[0], 0, 8 * MIB);
	}
	if (round == 4)
		link_stop(rig->link);
}

static void
a_compare_the_server_cannot_answer_is_tried_again(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 8 * MIB, path);
	add_volume(rig, path);
	run_script(rig, refuse_a_compare);
	assert_int_equal(rig->link->restarts, 2);
	assert_same_bytes(rig, 0, path);
}

static void
stop_reading(struct rig *rig, unsigned round)
{
	atomic_store(&rig->stop, true);
}

static void
the_stop_flag_ends_it(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 8 * MIB, path);
	add_volume(rig, path);
	rig->config.interval_ns = 3600 * NS_PER_SECOND;
	run_script(rig, stop_reading);
	assert_int_equal(rig->round, 1);
}

static void
the_read_limit_is_kept(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];
	int64_t start_ns;

	make_image(rig, "a.img", 6 * MIB, path);
	scribble(rig, path, 0, 6 * MIB);
	add_volume(rig, path);
	rig->config.read_limit_bytes = 6 * MIB;
	start_ns = clock_monotonic_ns();
	run_once(rig); /* reads 12 MiB: a fill and a pass; one second's worth may come at once */
	assert_true(clock_monotonic_ns() - start_ns > NS_PER_SECOND);
}

/* ---- identity ---- */

static void
rename_the_image(struct rig *rig, unsigned round)
{
	char path[PATH_BYTES];

	if (round == 1) {
		path_in(rig, "b.img", path);
		assert_int_equal(rename(rig->paths[0], path), 0);
		scribble(rig, path, MIB, 4096);
	}
	if (round == 2)
		link_stop(rig->link);
}

static void
a_renamed_image_is_followed(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 4 * MIB, path);
	add_volume(rig, path);
	run_script(rig, rename_the_image);
	path_in(rig, "b.img", path);
	assert_string_equal(rig->paths[0], path);
	assert_string_equal(rig->link->declared.volumes[0].device_name, path);
	assert_true(fake_has_notice(rig->link, "volume_moved"));
	assert_same_bytes(rig, 0, path);
}

static void
grow_the_image(struct rig *rig, unsigned round)
{
	if (round == 1) {
		assert_int_equal(truncate(rig->paths[0], 9 * MIB + 100), 0);
		scribble(rig, rig->paths[0], 4 * MIB, 5 * MIB);
	}
	if (round == 4)
		link_stop(rig->link);
}

static void
a_grown_image_is_followed(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 4 * MIB + 1234, path); /* the old last block was padded */
	scribble(rig, path, 0, 4 * MIB + 1234);
	add_volume(rig, path);
	run_script(rig, grow_the_image);
	assert_same_bytes(rig, 0, path);
	assert_int_equal(rig->volumes[0].size_bytes, 9 * MIB + 100);
	assert_int_equal(checkpoint(rig, rig->link->checkpoint_count - 1)->consistency, CONSISTENCY_CRASH);
}

static void
shrink_the_image(struct rig *rig, unsigned round)
{
	if (round == 1) {
		scribble(rig, rig->paths[0], 0, 4096);
		scribble(rig, rig->paths[1], 0, 4096);
		assert_int_equal(truncate(rig->paths[0], 3 * MIB), 0);
		rig->link->payload_blocks = 0;
	}
	if (round == 3) {
		/* The other volume went on; no checkpoint could be given. */
		assert_int_equal(rig->link->payload_blocks, 1);
		assert_int_equal(rig->link->checkpoint_count, 1);
		assert_int_equal(rig->link->declared.volumes[0].state, VOLUME_SHRUNK);
		assert_int_equal(rig->link->declared.volumes[1].state, VOLUME_OK);
		assert_int_equal(truncate(rig->paths[0], 4 * MIB), 0);
	}
	if (round == 5)
		link_stop(rig->link);
}

static void
a_shrunk_image_sends_nothing_and_forbids_checkpoints(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	make_image(rig, "a.img", 4 * MIB, path);
	add_volume(rig, path);
	make_image(rig, "b.img", 4 * MIB, path);
	add_volume(rig, path);
	run_script(rig, shrink_the_image);
	assert_int_equal(rig->link->declared.volumes[0].state, VOLUME_OK);
	assert_same_bytes(rig, 0, rig->paths[0]);
	assert_same_bytes(rig, 1, rig->paths[1]);
	assert_true(rig->link->checkpoint_count >= 2);
	assert_true(fake_has_notice(rig->link, "volume_shrunk"));
}

static void
replace_the_image(struct rig *rig, unsigned round)
{
	char path[PATH_BYTES];

	if (round == 1) {
		make_image(rig, "new.img", 4 * MIB, path);
		scribble(rig, path, 0, MIB);
		assert_int_equal(rename(path, rig->paths[0]), 0);
		rig->link->payload_blocks = 0;
	}
	if (round == 3)
		link_stop(rig->link);
}

static void
another_file_under_the_old_name_is_not_the_volume(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES], keep[PATH_BYTES];

	make_image(rig, "a.img", 4 * MIB, path);
	add_volume(rig, path);
	path_in(rig, "elsewhere", keep);
	assert_int_equal(mkdir(keep, 0700), 0);
	path_in(rig, "elsewhere/a.img", keep);
	assert_int_equal(linkat(AT_FDCWD, path, AT_FDCWD, keep, 0),
	    0); /* the inode lives on, so the new file cannot get its number */
	run_script(rig, replace_the_image);
	assert_int_equal(rig->link->payload_blocks, 0);
	assert_int_equal(rig->link->declared.volumes[0].state, VOLUME_IDENTITY_MISSING);
	assert_true(fake_has_notice(rig->link, "volume_missing"));
}

static void
once_fails_on_a_missing_disk(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];
	struct hf_error err = {0};

	make_image(rig, "a.img", 4 * MIB, path);
	add_volume(rig, path);
	assert_int_equal(unlink(path), 0);
	rig->config.once = true;
	assert_int_equal(pass_run(rig->link, &rig->config, &err), -HF_EIDENTITY);
	assert_non_null(strstr(err.text, "disk0"));
	assert_non_null(strstr(err.text, "was not found"));
}

/* ---- loop devices ---- */

static void
skip_without_loops(void)
{
	if (loop_is_possible())
		return;
	print_message("skipped: loop devices need root\n");
	skip();
}

static char loops[DISKS][LOOP_PATH_BYTES];

static int
detach_loops(void **state)
{
	for (size_t i = 0; i < DISKS; i++) {
		loop_detach(loops[i]);
		loops[i][0] = '\0';
	}
	return destroy_rig(state);
}

static void
make_loop_volumes(struct rig *rig, size_t count)
{
	char path[PATH_BYTES], name[16];

	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof name, "%zu.img", i);
		make_image(rig, name, 6 * MIB + 512, path);
		scribble(rig, path, 0, 6 * MIB + 512);
		if (!loop_attach(path, loops[i])) {
			print_message("skipped: no loop device to be had\n");
			skip();
		}
		add_volume(rig, loops[i]);
	}
}

static void
swap_the_loops(struct rig *rig, unsigned round)
{
	char path[PATH_BYTES];

	if (round == 1) {
		loop_detach(loops[0]); /* works only because nothing is held open between passes */
		loop_detach(loops[1]);
		path_in(rig, "0.img", path);
		assert_true(loop_attach_to(loops[1], path));
		scribble(rig, loops[1], MIB, 4096);
		path_in(rig, "1.img", path);
		assert_true(loop_attach_to(loops[0], path));
		rig->link->payload_blocks = 0;
	}
	if (round == 3)
		link_stop(rig->link);
}

static void
two_swapped_loop_devices_are_recognised(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	skip_without_loops();
	make_loop_volumes(rig, 2);
	run_script(rig, swap_the_loops);
	assert_int_equal(rig->link->payload_blocks, 1);
	assert_true(fake_has_notice(rig->link, "volume_moved"));
	assert_string_equal(rig->paths[0], loops[1]);
	assert_string_equal(rig->paths[1], loops[0]);
	path_in(rig, "0.img", path);
	assert_same_bytes(rig, 0, path);
	path_in(rig, "1.img", path);
	assert_same_bytes(rig, 1, path);
}

static void
damage_the_loop(struct rig *rig, unsigned round)
{
	char path[PATH_BYTES];

	path_in(rig, "0.img", path);
	if (round == 1)
		assert_int_equal(truncate(path, 3 * MIB), 0); /* what lies beyond cannot be read now */
	if (round == 4) {
		assert_int_equal(rig->link->declared.volumes[0].state, VOLUME_UNREADABLE);
		assert_int_equal(rig->link->checkpoint_count, 1);
		assert_int_equal(truncate(path, 6 * MIB + 512), 0);
	}
	if (round == 7)
		link_stop(rig->link);
}

static void
an_unreadable_disk_is_told_and_comes_back(void **state)
{
	struct rig *rig = *state;
	char path[PATH_BYTES];

	skip_without_loops();
	make_loop_volumes(rig, 1);
	run_script(rig, damage_the_loop);
	assert_true(fake_has_notice(rig->link, "volume_unreadable"));
	assert_true(fake_has_notice(rig->link, "volume_ok"));
	assert_int_equal(rig->link->declared.volumes[0].state, VOLUME_OK);
	path_in(rig, "0.img", path);
	assert_same_bytes(rig, 0, path);
	assert_true(rig->link->checkpoint_count > 1);
}

#define pass_test(name)      cmocka_unit_test_setup_teardown(name, create_rig, destroy_rig)
#define pass_loop_test(name) cmocka_unit_test_setup_teardown(name, create_rig, detach_loops)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    pass_test(a_fill_copies_every_byte_and_is_marked_crash_consistent),
	    pass_test(an_empty_disk_costs_no_payload),
	    pass_test(a_pass_sends_what_differs_and_only_that),
	    pass_test(the_backlog_is_told_by_the_disk_it_is_of_until_the_checkpoint),
	    pass_test(an_unchanged_disk_sends_a_checkpoint_only_when_asked),
	    pass_test(a_request_to_compare_is_answered_with_what_the_next_pass_found),
	    pass_test(a_request_after_a_change_gets_the_crash_consistent_checkpoint),
	    pass_test(a_disk_that_changes_in_every_pass_is_only_fuzzy),
	    pass_test(differences_everywhere_are_all_sent),
	    pass_test(a_restarted_agent_compares_and_begins_with_what_changed_lately),
	    pass_test(a_16_tib_sparse_disk_costs_what_is_on_it),
	    pass_test(a_lost_stream_is_begun_anew_and_nothing_is_lost),
	    pass_test(a_compare_the_server_cannot_answer_is_tried_again),
	    pass_test(the_stop_flag_ends_it),
	    pass_test(the_read_limit_is_kept),
	    pass_test(a_renamed_image_is_followed),
	    pass_test(a_grown_image_is_followed),
	    pass_test(a_shrunk_image_sends_nothing_and_forbids_checkpoints),
	    pass_test(another_file_under_the_old_name_is_not_the_volume),
	    pass_test(once_fails_on_a_missing_disk),
	    pass_loop_test(two_swapped_loop_devices_are_recognised),
	    pass_loop_test(an_unreadable_disk_is_told_and_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
