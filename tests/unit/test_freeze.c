/* SPDX-License-Identifier: Apache-2.0 */
/* The guard, and frozen checkpoints, on ext4 file systems on loop devices. */
#include "tests/lib/fake_link.h"

#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "agent/freezable.h"
#include "agent/freeze.h"
#include "agent/frozen.h"
#include "agent/pass.h"
#include "agent/thaw.h"
#include "proto/common/units.h"
#include "tests/lib/loop.h"
#include "tests/lib/scratch.h"

enum { MOUNTS = 2, IMAGE_BYTES = 32 * 1024 * 1024 };

struct rig {
	char directory[64];
	char images[MOUNTS][PATH_BYTES], loops[MOUNTS][LOOP_PATH_BYTES], mountpoints[MOUNTS][PATH_BYTES];
	const char *paths[MOUNTS]; /* = mountpoints */
	bool is_mounted[MOUNTS];
	struct freeze *freeze;

	/* for whole passes */
	struct link *link;
	struct pass_config config;
	struct pass_volume volumes[MOUNTS];
	char identities[MOUNTS][NAME_BYTES];
	unsigned rounds, rounds_wanted;

	pthread_t writer;
	atomic_bool writer_must_end;
	atomic_uint written;
};

static int
shell(const char *format, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof command, format, ap);
	va_end(ap);
	return system(command);
}

static void
make_mount(struct rig *rig, size_t i)
{
	snprintf(rig->images[i], PATH_BYTES, "%s/%zu.img", rig->directory, i);
	snprintf(rig->mountpoints[i], PATH_BYTES, "%s/%zu", rig->directory, i);
	rig->paths[i] = rig->mountpoints[i];
	assert_int_equal(shell("truncate -s %d %s && mkfs.ext4 -q -F %s && mkdir %s", IMAGE_BYTES, rig->images[i],
			     rig->images[i], rig->mountpoints[i]),
	    0);
	assert_true(loop_attach(rig->images[i], rig->loops[i]));
	assert_int_equal(mount(rig->loops[i], rig->mountpoints[i], "ext4", MS_NOATIME, NULL), 0);
	rig->is_mounted[i] = true;
}

static int
create_rig(void **state)
{
	struct rig *rig = calloc(1, sizeof *rig);

	assert_non_null(rig);
	*state = rig;
	scratch_make(rig->directory, sizeof rig->directory, "test_freeze");
	rig->link = fake_create(rig->directory);
	if (loop_is_possible())
		for (size_t i = 0; i < MOUNTS; i++)
			make_mount(rig, i);
	return 0;
}

static void
thaw_whatever(const char *mountpoint)
{
	int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	(void)ioctl(fd, FITHAW, 0);
	close(fd);
}

static int
destroy_rig(void **state)
{
	struct rig *rig = *state;

	freeze_destroy(rig->freeze);
	for (size_t i = 0; i < MOUNTS; i++) {
		if (rig->is_mounted[i]) {
			thaw_whatever(rig->mountpoints[i]);
			assert_int_equal(umount2(rig->mountpoints[i], MNT_DETACH), 0);
		}
		loop_detach(rig->loops[i]);
	}
	fake_destroy(rig->link);
	assert_int_equal(scratch_remove(rig->directory), 0);
	free(rig);
	return 0;
}

static void
skip_without_mounts(const struct rig *rig)
{
	if (rig->is_mounted[MOUNTS - 1])
		return;
	print_message("skipped: freezing needs root and loop devices\n");
	skip();
}

/* Freezing what is frozen already is refused; so this asks without changing anything. */
static bool
is_frozen(const char *mountpoint)
{
	int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool frozen;

	assert_true(fd >= 0);
	frozen = ioctl(fd, FIFREEZE, 0) < 0 && errno == EBUSY;
	if (!frozen)
		assert_int_equal(ioctl(fd, FITHAW, 0), 0);
	close(fd);
	return frozen;
}

static void
await_thaw(const char *mountpoint)
{
	int64_t until_ns = clock_monotonic_ns() + 20 * NS_PER_SECOND;

	while (is_frozen(mountpoint)) {
		assert_true(clock_monotonic_ns() < until_ns);
		usleep(10000);
	}
}

static void
start(struct rig *rig)
{
	struct hf_error err = {0};
	int r = freeze_create(rig->paths, MOUNTS, rig->directory, &rig->freeze, &err);

	if (r < 0)
		print_message("%s\n", err.text);
	assert_int_equal(r, 0);
}

/* ---- the guard ---- */

static void
file_systems_stand_still_from_begin_to_end(void **state)
{
	struct rig *rig = *state;

	skip_without_mounts(rig);
	start(rig);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(freeze_begin(rig->freeze, 20 * NS_PER_SECOND, NULL), 0);
		assert_true(is_frozen(rig->mountpoints[0]));
		assert_true(is_frozen(rig->mountpoints[1]));
		assert_int_equal(freeze_end(rig->freeze), 0);
		assert_false(is_frozen(rig->mountpoints[0]));
		assert_false(is_frozen(rig->mountpoints[1]));
	}
}

static void
the_guard_thaws_when_the_time_is_over(void **state)
{
	struct rig *rig = *state;

	skip_without_mounts(rig);
	start(rig);
	assert_int_equal(freeze_begin(rig->freeze, NS_PER_SECOND / 2, NULL), 0);
	assert_true(is_frozen(rig->mountpoints[1]));
	await_thaw(rig->mountpoints[0]);
	await_thaw(rig->mountpoints[1]);
	assert_int_equal(freeze_end(rig->freeze), -ETIME);
	assert_int_equal(freeze_begin(rig->freeze, 20 * NS_PER_SECOND, NULL), 0);
	assert_int_equal(freeze_end(rig->freeze), 0);
}

/* In a child: freeze, tell the parent, and wait to be killed. */
static void
freeze_and_wait(struct rig *rig, int told)
{
	struct freeze *f;
	int guard;

	if (freeze_create(rig->paths, MOUNTS, rig->directory, &f, NULL) < 0 ||
	    freeze_begin(f, 600 * NS_PER_SECOND, NULL) < 0)
		_exit(1);
	guard = freeze_guard_pid(f);
	if (write(told, &guard, sizeof guard) != sizeof guard)
		_exit(1);
	for (;;)
		pause();
}

/* From now on this process has a kernel from before 5.9. */
static void
forbid_close_range(void)
{
	struct sock_filter program[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_close_range, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {.len = 4, .filter = program};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
		_exit(1);
}

/* An agent in a process of its own, within a freeze; its guard's pid. */
static pid_t
start_freezing_agent(struct rig *rig, bool old_kernel, int *ret_guard)
{
	int told[2];
	pid_t agent;

	assert_int_equal(pipe(told), 0);
	agent = fork();
	assert_true(agent >= 0);
	if (agent == 0) {
		close(told[0]);
		if (old_kernel)
			forbid_close_range();
		freeze_and_wait(rig, told[1]);
	}
	close(told[1]);
	assert_int_equal(read(told[0], ret_guard, sizeof *ret_guard), sizeof *ret_guard);
	close(told[0]);
	assert_true(is_frozen(rig->mountpoints[0]));
	assert_true(is_frozen(rig->mountpoints[1]));
	return agent;
}

static void
check_thaw_after_kill(struct rig *rig, bool old_kernel)
{
	int guard = 0;
	pid_t agent = start_freezing_agent(rig, old_kernel, &guard);

	assert_int_equal(kill(agent, SIGKILL), 0);
	assert_int_equal(waitpid(agent, NULL, 0), agent);
	await_thaw(rig->mountpoints[0]);
	await_thaw(rig->mountpoints[1]);
	for (int64_t until_ns = clock_monotonic_ns() + 20 * NS_PER_SECOND; kill(guard, 0) == 0; usleep(10000))
		assert_true(clock_monotonic_ns() < until_ns); /* it leaves no process behind */
}

static void
the_guard_thaws_when_the_agent_is_killed(void **state)
{
	skip_without_mounts(*state);
	check_thaw_after_kill(*state, false);
}

static void
the_guard_needs_no_new_kernel_to_notice_that_the_agent_is_gone(void **state)
{
	skip_without_mounts(*state);
	check_thaw_after_kill(*state, true);
}

static void
a_file_system_frozen_by_others_is_left_so(void **state)
{
	struct rig *rig = *state;
	struct hf_error err = {0};
	int fd;

	skip_without_mounts(rig);
	start(rig);
	fd = open(rig->mountpoints[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, FIFREEZE, 0), 0);
	assert_int_equal(freeze_begin(rig->freeze, 20 * NS_PER_SECOND, &err), -EBUSY);
	assert_non_null(strstr(err.text, rig->mountpoints[1]));
	assert_false(is_frozen(rig->mountpoints[0]));
	assert_true(is_frozen(rig->mountpoints[1]));
	assert_int_equal(ioctl(fd, FITHAW, 0), 0);
	close(fd);
	assert_int_equal(freeze_begin(rig->freeze, 20 * NS_PER_SECOND, NULL), 0);
	assert_int_equal(freeze_end(rig->freeze), 0);
}

static void
a_killed_guard_is_replaced(void **state)
{
	struct rig *rig = *state;

	skip_without_mounts(rig);
	start(rig);
	assert_int_equal(kill(freeze_guard_pid(rig->freeze), SIGKILL), 0);
	(void)freeze_begin(rig->freeze, 20 * NS_PER_SECOND, NULL); /* finds out */
	assert_int_equal(freeze_begin(rig->freeze, 20 * NS_PER_SECOND, NULL), 0);
	assert_int_equal(freeze_end(rig->freeze), 0);
}

/* ---- what is written down ---- */

static void
on_thaw(void *arg, const struct thaw *t)
{
	int *counts = arg;

	counts[t->result]++;
}

static bool
has_records(const struct rig *rig)
{
	return shell("ls %s/frozen.* >/dev/null 2>&1", rig->directory) == 0;
}

/* Agent and guard, as systemd or the kernel, out of memory, kills a whole group; the guard first: it must not see the
 * agent's end. */
static void
kill_group_within_a_freeze(struct rig *rig)
{
	int guard = 0;
	pid_t agent = start_freezing_agent(rig, false, &guard);

	assert_int_equal(kill(guard, SIGKILL), 0);
	assert_int_equal(kill(agent, SIGKILL), 0);
	assert_int_equal(waitpid(agent, NULL, 0), agent);
	assert_true(is_frozen(rig->mountpoints[0]));
	assert_true(is_frozen(rig->mountpoints[1]));
}

static void
what_a_killed_group_left_frozen_is_thawed_from_its_record(void **state)
{
	struct rig *rig = *state;
	int counts[THAW_FAILED + 1] = {0};

	skip_without_mounts(rig);
	kill_group_within_a_freeze(rig);
	assert_int_equal(thaw_left(rig->directory, 20 * NS_PER_SECOND, on_thaw, counts, NULL), 0);
	assert_int_equal(counts[THAW_DONE], MOUNTS);
	assert_false(is_frozen(rig->mountpoints[0]));
	assert_false(is_frozen(rig->mountpoints[1]));
	assert_false(has_records(rig));
}

static void
what_others_froze_is_not_thawed(void **state)
{
	struct rig *rig = *state;
	int counts[THAW_FAILED + 1] = {0}, fd;
	const char *only[] = {rig->mountpoints[1]};

	skip_without_mounts(rig);
	fd = open(rig->mountpoints[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(freeze_create(only, 1, rig->directory, &rig->freeze, NULL), 0);
	assert_int_equal(freeze_begin(rig->freeze, 20 * NS_PER_SECOND, NULL), 0);
	assert_int_equal(ioctl(fd, FIFREEZE, 0), 0);
	assert_int_equal(kill(freeze_guard_pid(rig->freeze), SIGKILL), 0);
	assert_int_equal(thaw_left(rig->directory, 20 * NS_PER_SECOND, on_thaw, counts, NULL), 0);
	assert_int_equal(counts[THAW_DONE], 1);
	assert_true(is_frozen(rig->mountpoints[0]));
	assert_false(is_frozen(rig->mountpoints[1]));
	assert_int_equal(ioctl(fd, FITHAW, 0), 0);
	close(fd);
}

static void
what_lives_is_left_alone_and_its_freeze_stays_one(void **state)
{
	struct rig *rig = *state;
	int counts[THAW_FAILED + 1] = {0};

	skip_without_mounts(rig);
	start(rig);
	assert_int_equal(thaw_left(rig->directory, 0, on_thaw, counts, NULL), 0); /* not within a freeze */
	assert_int_equal(freeze_begin(rig->freeze, 600 * NS_PER_SECOND, NULL), 0);
	assert_int_equal(thaw_left(rig->directory, 0, on_thaw, counts, NULL), -EBUSY);
	assert_int_equal(counts[THAW_HELD], MOUNTS);
	assert_true(is_frozen(rig->mountpoints[0]));
	assert_int_equal(freeze_end(rig->freeze), 0);
	assert_int_equal(thaw_left(rig->directory, 0, on_thaw, counts, NULL), 0);
	assert_true(has_records(rig));
	freeze_destroy(rig->freeze);
	rig->freeze = NULL;
	assert_false(has_records(rig));
}

/* A path may lead elsewhere by then; it is the file system that is thawed. */
static void
a_file_system_is_thawed_where_it_is_mounted_now(void **state)
{
	struct rig *rig = *state;
	int counts[THAW_FAILED + 1] = {0};
	char moved[PATH_BYTES];

	skip_without_mounts(rig);
	kill_group_within_a_freeze(rig);
	snprintf(moved, sizeof moved, "%s/a new\tplace", rig->directory);
	assert_int_equal(mkdir(moved, 0700), 0);
	assert_int_equal(mount(rig->mountpoints[0], moved, NULL, MS_BIND, NULL), 0);
	assert_int_equal(umount2(rig->mountpoints[0], MNT_DETACH), 0);
	assert_int_equal(thaw_left(rig->directory, 20 * NS_PER_SECOND, on_thaw, counts, NULL), 0);
	assert_false(is_frozen(moved));
	assert_int_equal(mount(moved, rig->mountpoints[0], NULL, MS_BIND, NULL), 0);
	assert_int_equal(umount2(moved, MNT_DETACH), 0);
	assert_int_equal(counts[THAW_DONE], MOUNTS);
}

static void
what_a_killed_guard_left_frozen_is_thawed_by_its_agent(void **state)
{
	struct rig *rig = *state;

	skip_without_mounts(rig);
	start(rig);
	assert_int_equal(freeze_begin(rig->freeze, 600 * NS_PER_SECOND, NULL), 0);
	assert_int_equal(kill(freeze_guard_pid(rig->freeze), SIGKILL), 0);
	assert_int_equal(freeze_end(rig->freeze), -EPIPE);
	assert_false(is_frozen(rig->mountpoints[0]));
	assert_false(is_frozen(rig->mountpoints[1]));
	assert_int_equal(freeze_begin(rig->freeze, 20 * NS_PER_SECOND, NULL), 0);
	assert_int_equal(freeze_end(rig->freeze), 0);
}

static void
nothing_is_frozen_that_cannot_be_written_down(void **state)
{
	struct rig *rig = *state;
	struct hf_error err = {0};
	char full[PATH_BYTES];

	skip_without_mounts(rig);
	snprintf(full, sizeof full, "%s/full", rig->directory);
	assert_int_equal(mkdir(full, 0700), 0);
	assert_int_equal(mount("tmpfs", full, "tmpfs", 0, "size=4096"), 0);
	assert_int_equal(freeze_create(rig->paths, MOUNTS, full, &rig->freeze, NULL), 0);
	assert_int_equal(shell("head -c 4096 /dev/zero >%s/file", full), 0);
	assert_int_equal(freeze_begin(rig->freeze, 20 * NS_PER_SECOND, &err), -ENOSPC);
	assert_non_null(strstr(err.text, full));
	assert_false(is_frozen(rig->mountpoints[0]));
	assert_int_equal(shell("rm %s/file", full), 0);
	assert_int_equal(freeze_begin(rig->freeze, 20 * NS_PER_SECOND, NULL), 0);
	assert_int_equal(freeze_end(rig->freeze), 0);
	assert_int_equal(umount2(full, MNT_DETACH), 0);
}

/* ---- what may be frozen ---- */

static void
our_own_state_and_log_are_not_frozen(void **state)
{
	struct rig *rig = *state;
	const char *first[] = {rig->mountpoints[0]};
	char log[PATH_BYTES];
	struct hf_error err = {0};
	int saved, fd;

	skip_without_mounts(rig);
	assert_int_equal(freezable_check(first, 1, rig->directory, rig->directory, &err), 0);
	assert_int_equal(freezable_check(first, 1, rig->mountpoints[0], rig->directory, &err), -EINVAL);
	assert_non_null(strstr(err.text, "state"));
	snprintf(log, sizeof log, "%s/log", rig->mountpoints[0]);
	fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	saved = dup(2);
	assert_true(fd >= 0 && saved >= 0);
	assert_int_equal(dup2(fd, 2), 2);
	close(fd);
	fd = freezable_check(first, 1, rig->directory, rig->directory, &err);
	assert_int_equal(dup2(saved, 2), 2);
	close(saved);
	assert_int_equal(fd, -EINVAL);
	assert_non_null(strstr(err.text, "log"));
}

static void
what_is_no_mount_point_is_refused(void **state)
{
	struct rig *rig = *state;
	const char *directory[] = {rig->directory}, *none[] = {"/nonexistent"};
	struct hf_error err = {0};

	assert_int_equal(freezable_check(directory, 1, NULL, rig->directory, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a mount point"));
	assert_int_equal(freezable_check(none, 1, NULL, rig->directory, &err), -ENOENT);
}

static void
a_disk_is_covered_only_by_all_its_file_systems(void **state)
{
	struct rig *rig = *state;
	struct disk_info disk, file;
	struct freeze *one;

	skip_without_mounts(rig);
	start(rig);
	assert_int_equal(disks_identify(rig->loops[0], &disk, NULL), 0);
	assert_int_equal(disks_identify(rig->images[1], &file, NULL), 0);
	assert_true(freeze_covers(rig->freeze, &disk));
	assert_true(freeze_covers(rig->freeze, &file)); /* the image file under the loop device */
	assert_int_equal(freeze_create(rig->paths, 1, rig->directory, &one, NULL), 0);
	assert_true(freeze_covers(one, &disk));
	assert_false(freeze_covers(one, &file));
	freeze_destroy(one);
	assert_int_equal(umount(rig->mountpoints[0]), 0); /* the guard holds nothing */
	rig->is_mounted[0] = false;
	assert_false(freeze_covers(rig->freeze, &disk));
}

static void
a_file_system_is_named_once(void **state)
{
	struct rig *rig = *state;
	const char *twice[] = {rig->mountpoints[0], rig->mountpoints[1], rig->mountpoints[0]};
	struct hf_error err = {0};

	skip_without_mounts(rig);
	assert_int_equal(freezable_check(twice, 2, NULL, rig->directory, &err), 0);
	assert_int_equal(freezable_check(twice, 3, NULL, rig->directory, &err), -EINVAL);
	assert_non_null(strstr(err.text, "name one"));
}

/* systemd would wait for it before it could start what thaws. */
static void
what_the_service_manager_needs_is_not_frozen(void **state)
{
	struct rig *rig = *state;
	const char *first[] = {rig->mountpoints[0]};
	char inside[PATH_BYTES + 32];
	struct hf_error err = {0};

	skip_without_mounts(rig);
	snprintf(inside, sizeof inside, "%s/holdfast-agent:/other", rig->mountpoints[0]); /* not there yet */
	setenv("STATE_DIRECTORY", inside, 1);
	assert_int_equal(freezable_check(first, 1, rig->directory, rig->directory, &err), -EINVAL);
	assert_non_null(strstr(err.text, "StateDirectory="));
	setenv("STATE_DIRECTORY", rig->directory, 1);
	assert_int_equal(freezable_check(first, 1, rig->directory, rig->directory, &err), 0);
	unsetenv("STATE_DIRECTORY");
	assert_int_equal(freezable_check(first, 1, rig->directory, rig->mountpoints[0], &err), -EINVAL);
	assert_non_null(strstr(err.text, "RUNTIME_DIRECTORY"));
}

/* In place of the first file system: one with three subvolumes, of which two are mounted. */
static bool
make_btrfs(struct rig *rig, char *ret_other)
{
	snprintf(ret_other, PATH_BYTES, "%s/other", rig->directory);
	assert_int_equal(umount(rig->mountpoints[0]), 0);
	rig->is_mounted[0] = false;
	loop_detach(rig->loops[0]);
	if (shell("truncate -s 128M %s && mkfs.btrfs -q -f %s >/dev/null && mkdir %s", rig->images[0], rig->images[0],
		ret_other) != 0 ||
	    !loop_attach(rig->images[0], rig->loops[0]) ||
	    mount(rig->loops[0], rig->mountpoints[0], "btrfs", 0, NULL) < 0)
		return false;
	rig->is_mounted[0] = true;
	assert_int_equal(
	    shell("cd %s && btrfs -q subvolume create one && btrfs -q subvolume create two", rig->mountpoints[0]), 0);
	assert_int_equal(mount(rig->loops[0], ret_other, "btrfs", 0, "subvol=one"), 0);
	return true;
}

static void
the_subvolumes_of_a_btrfs_stand_still_together(void **state)
{
	struct rig *rig = *state;
	char other[PATH_BYTES], inside[PATH_BYTES + 8];
	const char *named[] = {other, rig->mountpoints[0]};
	struct disk_info disk;

	skip_without_mounts(rig);
	if (!make_btrfs(rig, other)) {
		print_message("skipped: there is no btrfs\n");
		skip();
	}
	snprintf(inside, sizeof inside, "%s/two", rig->mountpoints[0]);
	assert_int_equal(freezable_check(named, 1, rig->directory, rig->directory, NULL), 0);
	assert_int_equal(freezable_check(named, 1, inside, rig->directory, NULL), -EINVAL);
	assert_int_equal(freezable_check(named, 2, rig->directory, rig->directory, NULL), -EINVAL);
	assert_int_equal(disks_identify(rig->loops[0], &disk, NULL), 0);
	assert_int_equal(freeze_create(named, 1, rig->directory, &rig->freeze, NULL), 0);
	assert_true(freeze_covers(rig->freeze, &disk));
	assert_int_equal(freeze_begin(rig->freeze, 600 * NS_PER_SECOND, NULL), 0);
	assert_true(is_frozen(rig->mountpoints[0]));
	assert_int_equal(umount2(other, MNT_DETACH), 0);
	assert_int_equal(kill(freeze_guard_pid(rig->freeze), SIGKILL), 0);
	assert_int_equal(freeze_end(rig->freeze), -EPIPE);
	assert_false(is_frozen(rig->mountpoints[0])); /* where another of its subvolumes is mounted */
}

/* ---- whole passes ---- */

/* Files are made, overwritten and removed without pause, on the first file system and then on the second. */
static void *
run_writer(void *arg)
{
	struct rig *rig = arg;

	for (unsigned n = 1; !atomic_load(&rig->writer_must_end); n++) {
		for (size_t i = 0; i < MOUNTS; i++) {
			char path[PATH_BYTES + 32], record[8192];
			int fd;

			snprintf(path, sizeof path, "%s/file-%u", rig->mountpoints[i], n % 64);
			memset(record, (int)n, sizeof record);
			snprintf(record, sizeof record, "%u", n);
			if (n % 64 == 63)
				unlink(path);
			fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
			if (fd < 0 || write(fd, record, sizeof record) < 0 || fsync(fd) < 0)
				abort();
			close(fd);
		}
		atomic_store(&rig->written, n);
	}
	return NULL;
}

static void
on_report(void *arg, const struct message_report *report)
{
	struct rig *rig = arg;

	if (report->activity == ACTIVITY_IDLE && ++rig->rounds == rig->rounds_wanted)
		link_stop(rig->link);
}

static struct rig *checked_rig;
static unsigned clean_checkpoints;

/* The newest record on a copy of a volume. */
static unsigned
newest_record(const char *image)
{
	char command[512], line[64];
	unsigned newest = 0;
	FILE *out;

	for (unsigned i = 0; i < 64; i++) {
		snprintf(command, sizeof command, "debugfs -R 'cat /file-%u' %s 2>/dev/null | head -c 12", i, image);
		out = popen(command, "re");
		assert_non_null(out);
		memset(line, 0, sizeof line);
		if (fread(line, 1, sizeof line - 1, out) > 0 && strtoul(line, NULL, 10) > newest)
			newest = (unsigned)strtoul(line, NULL, 10);
		pclose(out);
	}
	return newest;
}

/* A frozen copy is a clean file system as it stands; a crash-consistent one after its journal was replayed. The second
 * disk is never ahead of the first. */
static void
check_checkpoint(struct link *l, const struct message_checkpoint *m)
{
	unsigned newest[MOUNTS];
	char copy[PATH_BYTES];

	if (m->consistency < CONSISTENCY_CRASH)
		return;
	clean_checkpoints += m->consistency == CONSISTENCY_FILESYSTEM;
	snprintf(copy, sizeof copy, "%s/copy", checked_rig->directory);
	for (size_t i = 0; i < MOUNTS; i++) {
		assert_int_equal(shell("cp --sparse=always %s %s", l->volumes[i].path, copy), 0);
		if (m->consistency == CONSISTENCY_CRASH)
			assert_int_equal(shell("e2fsck -fp %s >%s.log 2>&1 || [ $? = 1 ]", copy, copy), 0);
		else
			assert_int_not_equal(shell("dumpe2fs -h %s 2>/dev/null | grep -q needs_recovery", copy), 0);
		assert_int_equal(shell("e2fsck -fn %s >%s.log 2>&1 || { cat %s.log; false; }", copy, copy, copy), 0);
		newest[i] = newest_record(copy);
	}
	print_message("%s: records %u and %u\n", consistency_name(m->consistency), newest[0], newest[1]);
	assert_true(newest[0] >= newest[1]);
}

static void
prepare_passes(struct rig *rig, unsigned rounds, size_t mounts_frozen)
{
	static const char *const names[MOUNTS] = {"one", "two"};

	for (size_t i = 0; i < MOUNTS; i++) {
		struct disk_info disk;

		assert_int_equal(disks_identify(rig->loops[i], &disk, NULL), 0);
		snprintf(rig->identities[i], NAME_BYTES, "%s", disk.identity);
		rig->volumes[i] = (struct pass_volume){names[i], rig->identities[i], rig->loops[i], disk.size_bytes};
	}
	rig->rounds_wanted = rounds;
	rig->config = (struct pass_config){.volumes = rig->volumes,
	    .volume_count = MOUNTS,
	    .freeze_mountpoints = rig->paths,
	    .freeze_count = mounts_frozen,
	    .freeze_timeout_ns = 10 * NS_PER_SECOND,
	    .state_directory = rig->directory,
	    .record_directory = rig->directory,
	    .progress = PROGRESS_NONE,
	    .on_report = on_report,
	    .arg = rig};
}

static void
run_passes(struct rig *rig)
{
	struct hf_error err = {0};
	int r;

	assert_int_equal(pthread_create(&rig->writer, NULL, run_writer, rig), 0);
	r = pass_run(rig->link, &rig->config, &err);
	atomic_store(&rig->writer_must_end, true);
	assert_int_equal(pthread_join(rig->writer, NULL), 0);
	if (r != -ECANCELED)
		print_message("%s\n", err.text);
	assert_int_equal(r, -ECANCELED);
	assert_false(is_frozen(rig->mountpoints[0]));
	assert_false(is_frozen(rig->mountpoints[1]));
	assert_true(atomic_load(&rig->written) > 0);
}

static void
checkpoints_of_a_busy_file_system_are_clean_under_freeze(void **state)
{
	struct rig *rig = *state;

	skip_without_mounts(rig);
	prepare_passes(rig, 6, MOUNTS);
	checked_rig = rig;
	clean_checkpoints = 0;
	rig->link->on_checkpoint = check_checkpoint;
	run_passes(rig);
	assert_in_range(clean_checkpoints, 4, 6);
}

static void
write_file(const char *mountpoint)
{
	char path[PATH_BYTES + 32];
	static unsigned n;
	int fd;

	snprintf(path, sizeof path, "%s/late", mountpoint);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	n++;
	assert_int_equal(write(fd, &n, sizeof n), sizeof n);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

/* After everything was read, and before the file systems are frozen, something changes. */
static void
write_on_first(struct link *l)
{
	write_file(((struct rig *)l->arg)->mountpoints[0]);
}

static void
write_on_second(struct link *l)
{
	write_file(((struct rig *)l->arg)->mountpoints[1]);
}

static void
run_with_writes(struct rig *rig, void (*write_late)(struct link *l), size_t mounts_frozen)
{
	prepare_passes(rig, 4, mounts_frozen);
	rig->link->on_flush = write_late;
	rig->link->arg = rig;
	assert_int_equal(pass_run(rig->link, &rig->config, NULL), -ECANCELED);
	assert_in_range(rig->link->checkpoint_count, 3, 4);
}

static void
late_writes_under_a_frozen_file_system_are_in_the_checkpoint(void **state)
{
	struct rig *rig = *state;

	skip_without_mounts(rig);
	run_with_writes(rig, write_on_first, 1);
	for (size_t i = 0; i < rig->link->checkpoint_count; i++)
		assert_int_equal(rig->link->checkpoints[i].consistency, CONSISTENCY_FILESYSTEM);
}

static void
late_writes_beside_the_frozen_file_system_make_it_fuzzy(void **state)
{
	struct rig *rig = *state;

	skip_without_mounts(rig);
	run_with_writes(rig, write_on_second, 1);
	for (size_t i = 0; i < rig->link->checkpoint_count; i++)
		assert_int_equal(rig->link->checkpoints[i].consistency, CONSISTENCY_FUZZY);
	assert_true(fake_has_notice(rig->link, "freeze_incomplete"));
}

static void
too_short_a_time_is_not_tried_and_told_once(void **state)
{
	struct rig *rig = *state;

	skip_without_mounts(rig);
	prepare_passes(rig, 6, MOUNTS);
	rig->config.freeze_timeout_ns = 1000;
	/* Two passes may agree even so, while the writer waits for its disk: that had better be crash-consistent. */
	checked_rig = rig;
	rig->link->on_checkpoint = check_checkpoint;
	run_passes(rig);
	assert_int_equal(rig->link->notice_count, 1);
	for (size_t i = 0; i < rig->link->checkpoint_count; i++)
		assert_true(rig->link->checkpoints[i].consistency < CONSISTENCY_FILESYSTEM);
}

static void
a_frozen_read_ends_at_its_deadline_and_its_bound(void **state)
{
	struct rig *rig = *state;
	struct copier c = {.seed = 1, .link = rig->link};
	struct volume v = {.size_bytes = IMAGE_BYTES};
	struct node_map map;
	struct piece *list = NULL;
	size_t kept = 0;
	char path[PATH_BYTES];

	snprintf(path, sizeof path, "%s/plain", rig->directory);
	assert_int_equal(shell("head -c %d /dev/zero | tr '\\0' x >%s", IMAGE_BYTES, path), 0);
	assert_int_equal(reader_create(0, NULL, &c.reader), 0);
	assert_int_equal(reader_file_open(path, IMAGE_BYTES, &v.file), 0);
	assert_int_equal(node_map_init(&map, volume_nodes(&v)), 0);

	assert_int_equal(frozen_read(&c, &v, &map, 0, &kept, &list), -ETIME);
	assert_int_equal(kept, 1);
	kept = FROZEN_KEEP_MAX - 3;
	assert_int_equal(frozen_read(&c, &v, &map, INT64_MAX, &kept, &list), -ENOBUFS);
	assert_int_equal(kept, FROZEN_KEEP_MAX);
	for (size_t n = 0; n < 4; n++) {
		struct piece *p = list;

		assert_non_null(p);
		list = p->next;
		assert_int_equal(node_map_set(&map, p->node, p->digest), 0);
		piece_put(&c, p);
	}
	assert_null(list);
	for (uint64_t n = 3; n < volume_nodes(&v); n++) /* every node of the file is the same */
		assert_int_equal(node_map_set(&map, n, node_map_get(&map, 0)), 0);
	kept = 0;
	assert_int_equal(frozen_read(&c, &v, &map, INT64_MAX, &kept, &list), 0);
	assert_int_equal(kept, 0);

	node_map_fini(&map);
	reader_file_close(&v.file);
	reader_destroy(c.reader);
	copier_fini(&c);
}

#define freeze_test(name) cmocka_unit_test_setup_teardown(name, create_rig, destroy_rig)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    freeze_test(file_systems_stand_still_from_begin_to_end),
	    freeze_test(the_guard_thaws_when_the_time_is_over),
	    freeze_test(the_guard_thaws_when_the_agent_is_killed),
	    freeze_test(the_guard_needs_no_new_kernel_to_notice_that_the_agent_is_gone),
	    freeze_test(a_file_system_frozen_by_others_is_left_so),
	    freeze_test(a_killed_guard_is_replaced),
	    freeze_test(what_a_killed_group_left_frozen_is_thawed_from_its_record),
	    freeze_test(what_others_froze_is_not_thawed),
	    freeze_test(what_lives_is_left_alone_and_its_freeze_stays_one),
	    freeze_test(a_file_system_is_thawed_where_it_is_mounted_now),
	    freeze_test(what_a_killed_guard_left_frozen_is_thawed_by_its_agent),
	    freeze_test(nothing_is_frozen_that_cannot_be_written_down),
	    freeze_test(our_own_state_and_log_are_not_frozen),
	    freeze_test(what_is_no_mount_point_is_refused),
	    freeze_test(a_file_system_is_named_once),
	    freeze_test(what_the_service_manager_needs_is_not_frozen),
	    freeze_test(the_subvolumes_of_a_btrfs_stand_still_together),
	    freeze_test(a_disk_is_covered_only_by_all_its_file_systems),
	    freeze_test(checkpoints_of_a_busy_file_system_are_clean_under_freeze),
	    freeze_test(late_writes_under_a_frozen_file_system_are_in_the_checkpoint),
	    freeze_test(late_writes_beside_the_frozen_file_system_make_it_fuzzy),
	    freeze_test(a_frozen_read_ends_at_its_deadline_and_its_bound),
	    freeze_test(too_short_a_time_is_not_tried_and_told_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
