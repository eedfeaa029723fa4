/* SPDX-License-Identifier: Apache-2.0 */
/* The ring on real files, and the rules for short and refused transfers that a real disk will not
 * show on demand. */
#include "storage/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "storage/disk_impl.h"

enum { KIB = 1024, MIB = 1024 * 1024, DEPTH = 4 };

struct fixture {
	struct disk *disk;
	char dir[200];
	char path[256];
	char *buf; /* 1 MiB */
};

static const char *skip_reason;

static void
remove_entry(void *arg, const char *name)
{
	const struct fixture *f = arg;
	char path[512];

	snprintf(path, sizeof path, "%s/%s", f->dir, name);
	if (unlink(path) < 0)
		(void)rmdir(path);
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	const char *tmp = getenv("TMPDIR");
	struct hf_error err = {0};
	int r;

	assert_non_null(f);
	snprintf(f->dir, sizeof f->dir, "%s/test_disk_ring.XXXXXX", tmp != NULL ? tmp : "/var/tmp");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof f->path, "%s/file", f->dir);
	f->buf = buffer_alloc(MIB);
	assert_non_null(f->buf);
	r = disk_ring_create(DEPTH, &f->disk, &err);
	if (r < 0)
		fprintf(stderr, "%s\n", err.text);
	assert_int_equal(r, 0);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(disk_list(f->disk, f->dir, remove_entry, f), 0);
	assert_int_equal(rmdir(f->dir), 0);
	disk_destroy(f->disk);
	buffer_free(f->buf, MIB);
	free(f);
	return 0;
}

static struct fixture *
get(void **state)
{
	if (skip_reason != NULL) {
		fprintf(stderr, "skipped: %s\n", skip_reason);
		skip();
	}
	return *state;
}

static struct disk_file *
create_file(struct fixture *f)
{
	struct disk_file *file;

	assert_int_equal(disk_open(f->disk, f->path, DISK_WRITE | DISK_CREATE, &file), 0);
	return file;
}

static void
fill(char *buf, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (char)(seed + i / 512 + i);
}

static void
what_is_written_and_synced_is_read_back(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	char *back = buffer_alloc(MIB);

	fill(f->buf, MIB, 7);
	assert_int_equal(disk_write_now(f->disk, file, f->buf, MIB, 8 * KIB), 0);
	assert_int_equal(disk_sync_now(f->disk, file), 0);
	assert_int_equal(disk_sync_dir(f->disk, f->dir), 0);
	disk_close(f->disk, file);
	assert_int_equal(disk_open(f->disk, f->path, DISK_READ, &file), 0);
	assert_int_equal(disk_read_now(f->disk, file, back, MIB, 8 * KIB), 0);
	assert_memory_equal(back, f->buf, MIB);
	disk_close(f->disk, file);
	buffer_free(back, MIB);
}

/* What a watchdog sees of a thread that waits for its disk. */
static void
every_wait_that_ends_is_a_turn(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	uint64_t turns = disk_turns(f->disk);

	assert_int_equal(disk_write_now(f->disk, file, f->buf, 4 * KIB, 0), 0);
	assert_true(disk_turns(f->disk) > turns);
	turns = disk_turns(f->disk);
	assert_int_equal(disk_turns(f->disk), turns);
	assert_int_equal(disk_sync_now(f->disk, file), 0);
	assert_true(disk_turns(f->disk) > turns);
	disk_close(f->disk, file);
}

static void
files_are_opened_for_direct_io_and_not_inherited(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	struct {
		unsigned magic;
		int fd;
	} inside; /* the head of the ring's disk_file */

	memcpy(&inside, file, sizeof inside);
	assert_true(fcntl(inside.fd, F_GETFL) & O_DIRECT);
	assert_true(fcntl(inside.fd, F_GETFD) & FD_CLOEXEC);
	disk_close(f->disk, file);
}

struct many {
	struct disk *disk;
	struct disk_op ops[64];
	int results[64];
	int finished;
	bool submitting;
};

struct one_of_many {
	struct many *many;
	int index;
};

static void
on_one_of_many(void *arg, int res)
{
	struct one_of_many *o = arg;

	assert_false(o->many->submitting);
	o->many->results[o->index] = res;
	o->many->finished++;
}

/* As a loop does: sleep on the descriptor, drain, submit. */
static void
run_until(struct many *m, int finished)
{
	while (m->finished < finished) {
		struct pollfd p = {.fd = disk_fd(m->disk), .events = POLLIN};
		int r;

		m->submitting = true;
		disk_submit(m->disk);
		m->submitting = false;
		r = poll(&p, 1, 10000);
		assert_true(r == 1 || (r < 0 && errno == EINTR));
		(void)disk_drain(m->disk);
	}
}

static void
more_operations_than_the_ring_is_deep_all_finish_once(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	struct many *m = calloc(1, sizeof *m);
	struct one_of_many each[64];
	char *back = buffer_alloc(64 * DISK_ALIGN);

	m->disk = f->disk;
	fill(f->buf, 64 * DISK_ALIGN, 3);
	m->submitting = true;
	for (int i = 0; i < 64; i++) {
		each[i] = (struct one_of_many){m, i};
		m->ops[i] = (struct disk_op){.cb = on_one_of_many, .arg = &each[i]};
		m->results[i] = -1;
		disk_write(f->disk, &m->ops[i], file, f->buf + i * DISK_ALIGN, DISK_ALIGN, (uint64_t)i * DISK_ALIGN);
	}
	disk_submit(f->disk);
	m->submitting = false;
	assert_int_equal(m->finished, 0);
	run_until(m, 64);
	assert_int_equal(disk_drain(f->disk), 0);
	for (int i = 0; i < 64; i++)
		assert_int_equal(m->results[i], 0);
	assert_int_equal(disk_read_now(f->disk, file, back, 64 * DISK_ALIGN, 0), 0);
	assert_memory_equal(back, f->buf, 64 * DISK_ALIGN);
	disk_close(f->disk, file);
	buffer_free(back, 64 * DISK_ALIGN);
	free(m);
}

/* libevent sleeps in epoll: there too the descriptor must wake it. */
static void
epoll_on_the_descriptor_wakes_up(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	struct epoll_event e = {.events = EPOLLIN};
	struct many m = {.disk = f->disk};
	struct one_of_many one = {&m, 0};
	int ep = epoll_create1(EPOLL_CLOEXEC);

	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, disk_fd(f->disk), &e), 0);
	for (int i = 0; i < 20; i++) {
		m.ops[0] = (struct disk_op){.cb = on_one_of_many, .arg = &one};
		disk_write(f->disk, &m.ops[0], file, f->buf, MIB, 0);
		disk_submit(f->disk);
		while (m.finished == i) {
			int r = epoll_wait(ep, &e, 1, 10000);

			assert_true(r == 1 || (r < 0 && errno == EINTR));
			(void)disk_drain(f->disk);
		}
	}
	(void)close(ep);
	disk_close(f->disk, file);
}

static void
waiting_runs_the_callbacks_of_others(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	struct many m = {.disk = f->disk};
	struct one_of_many one = {&m, 0};
	struct disk_op last = {0};

	for (int i = 0; i < 10; i++) {
		m.ops[i] = (struct disk_op){.cb = on_one_of_many, .arg = &one};
		disk_write(f->disk, &m.ops[i], file, f->buf, DISK_ALIGN, 0);
	}
	disk_sync(f->disk, &last, file);
	assert_int_equal(disk_wait(f->disk, &last), 0);
	run_until(&m, 10);
	disk_close(f->disk, file);
}

struct chain {
	struct disk *disk;
	struct disk_file *file;
	char *buf;
	int left;
};

static void
write_nested(void *arg, int res)
{
	struct chain *c = arg;

	assert_int_equal(res, 0);
	if (c->left-- > 0)
		assert_int_equal(disk_write_now(c->disk, c->file, c->buf, DISK_ALIGN, 0), 0);
}

static void
a_callback_may_wait_for_another_operation(void **state)
{
	struct fixture *f = get(state);
	struct chain c = {f->disk, create_file(f), f->buf, 8};
	struct disk_op ops[8];

	for (int i = 0; i < 8; i++) {
		ops[i] = (struct disk_op){.cb = write_nested, .arg = &c};
		disk_write(f->disk, &ops[i], c.file, f->buf, DISK_ALIGN, 0);
	}
	for (int i = 0; i < 8; i++)
		assert_int_equal(disk_wait(f->disk, &ops[i]), 0);
	assert_int_equal(c.left, 0);
	disk_close(f->disk, c.file);
}

static void *
write_elsewhere(void *arg)
{
	struct chain *c = arg;

	for (int i = 0; i < c->left; i++) {
		if (disk_write_now(c->disk, c->file, c->buf, DISK_ALIGN, 0) != 0)
			return NULL;
	}
	return c;
}

/* Workers get their disks from main(). */
static void
a_ring_may_be_created_and_registered_by_another_thread(void **state)
{
	struct fixture *f = get(state);
	struct chain c = {f->disk, create_file(f), f->buf, 100};
	struct iovec v = {f->buf, MIB};
	int r = disk_register_buffers(f->disk, &v, 1);
	void *result = NULL;
	pthread_t thread;

	assert_true(r == 0 || r == -ENOMEM);
	assert_int_equal(pthread_create(&thread, NULL, write_elsewhere, &c), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, &c);
	disk_close(f->disk, c.file);
}

static void
registered_buffers_give_the_same_bytes(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	char *back = buffer_alloc(MIB);
	char *other = buffer_alloc(MIB);
	struct iovec v[2] = {{back, MIB}, {f->buf, MIB}};
	int r = disk_register_buffers(f->disk, v, 2);

	assert_true(r == 0 || r == -ENOMEM);
	fill(f->buf, MIB, 9);
	assert_int_equal(disk_write_now(f->disk, file, f->buf + 4096, MIB - 8192, 0), 0);
	assert_int_equal(disk_read_now(f->disk, file, back, MIB - 8192, 0), 0);
	assert_memory_equal(back, f->buf + 4096, MIB - 8192);
	assert_int_equal(disk_read_now(f->disk, file, other, MIB - 8192, 0), 0);
	assert_memory_equal(other, back, MIB - 8192);
	disk_close(f->disk, file);
	buffer_free(back, MIB);
	buffer_free(other, MIB);
}

static void
read_at_the_end_is_short_and_read_now_fails(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	struct disk_op op = {0};

	assert_int_equal(disk_write_now(f->disk, file, f->buf, 3 * DISK_ALIGN, 0), 0);
	disk_read(f->disk, &op, file, f->buf, MIB, DISK_ALIGN);
	assert_int_equal(disk_wait(f->disk, &op), 2 * DISK_ALIGN);
	disk_read(f->disk, &op, file, f->buf, MIB, MIB);
	assert_int_equal(disk_wait(f->disk, &op), 0);
	assert_int_equal(disk_read_now(f->disk, file, f->buf, 4 * DISK_ALIGN, 0), -EIO);
	assert_int_equal(disk_truncate(f->disk, file, 5000), 0);
	disk_read(f->disk, &op, file, f->buf, MIB, 0);
	assert_int_equal(disk_wait(f->disk, &op), 5000);
	disk_close(f->disk, file);
}

static void
a_file_opened_for_reading_refuses_writes(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);

	disk_close(f->disk, file);
	assert_int_equal(disk_open(f->disk, f->path, DISK_READ, &file), 0);
	assert_int_equal(disk_write_now(f->disk, file, f->buf, DISK_ALIGN, 0), -EBADF);
	disk_close(f->disk, file);
}

static void
punched_ranges_read_as_zeros_and_are_no_data(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	uint64_t at = 0, size = 0;

	fill(f->buf, MIB, 1);
	assert_int_equal(disk_write_now(f->disk, file, f->buf, MIB, 0), 0);
	assert_int_equal(disk_sync_now(f->disk, file), 0);
	assert_int_equal(disk_punch(f->disk, file, 0, 512 * KIB), 0);
	assert_int_equal(disk_size(f->disk, file, &size), 0);
	assert_int_equal(size, MIB);
	assert_int_equal(disk_read_now(f->disk, file, f->buf, DISK_ALIGN, 508 * KIB), 0);
	for (int i = 0; i < DISK_ALIGN; i++)
		assert_int_equal(f->buf[i], 0);
	assert_int_equal(disk_next_data(f->disk, file, 0, &at), 0);
	assert_int_equal(at, 512 * KIB);
	assert_int_equal(disk_punch(f->disk, file, 512 * KIB, 512 * KIB), 0);
	assert_int_equal(disk_next_data(f->disk, file, 0, &at), 0);
	assert_int_equal(at, MIB);
	disk_close(f->disk, file);
}

static void
allocate_grows_the_file_and_reads_as_zeros(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	uint64_t size = 0;

	assert_int_equal(disk_allocate(f->disk, file, 0, MIB), 0);
	assert_int_equal(disk_size(f->disk, file, &size), 0);
	assert_int_equal(size, MIB);
	memset(f->buf, 1, DISK_ALIGN);
	assert_int_equal(disk_read_now(f->disk, file, f->buf, DISK_ALIGN, 64 * KIB), 0);
	for (int i = 0; i < DISK_ALIGN; i++)
		assert_int_equal(f->buf[i], 0);
	disk_close(f->disk, file);
}

struct names {
	char all[256];
};

static void
add_name(void *arg, const char *name)
{
	struct names *n = arg;

	strcat(strcat(n->all, name), " ");
}

static void
list_is_in_byte_order(void **state)
{
	struct fixture *f = get(state);
	static const char *const names[] = {"b", "a", "Z", "_", "a0"};
	struct names n = {""};
	struct disk_file *file;
	char path[300];

	for (size_t i = 0; i < 5; i++) {
		snprintf(path, sizeof path, "%s/%s", f->dir, names[i]);
		assert_int_equal(disk_open(f->disk, path, DISK_WRITE | DISK_CREATE, &file), 0);
		disk_close(f->disk, file);
	}
	assert_int_equal(disk_list(f->disk, f->dir, add_name, &n), 0);
	assert_string_equal(n.all, "Z _ a a0 b ");
	assert_int_equal(disk_list(f->disk, "/nowhere/at/all", add_name, &n), -ENOENT);
}

static void
names_behave_as_posix_says(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	char other[300], sub[300];
	uint64_t bytes = 0;

	snprintf(other, sizeof other, "%s/other", f->dir);
	snprintf(sub, sizeof sub, "%s/sub", f->dir);
	disk_close(f->disk, file);
	assert_int_equal(disk_open(f->disk, f->path, DISK_WRITE | DISK_CREATE, &file), -EEXIST);
	assert_int_equal(disk_rename(f->disk, f->path, other), 0);
	assert_int_equal(disk_open(f->disk, f->path, DISK_READ, &file), -ENOENT);
	assert_int_equal(disk_mkdir(f->disk, sub), 0);
	assert_int_equal(disk_mkdir(f->disk, sub), -EEXIST);
	assert_int_equal(disk_unlink(f->disk, other), 0);
	assert_int_equal(disk_unlink(f->disk, other), -ENOENT);
	assert_int_equal(disk_sync_dir(f->disk, f->dir), 0);
	assert_int_equal(disk_sync_dir(f->disk, other), -ENOENT);
	assert_int_equal(disk_free_bytes(f->disk, f->dir, &bytes), 0);
	assert_true(bytes > 0);
}

/* The limit lets the first half through: a real short write, whose rest is then refused. */
static void
a_write_refused_half_way_reports_the_refusal(void **state)
{
	struct fixture *f = get(state);
	struct disk_file *file = create_file(f);
	struct rlimit whole, half;
	uint64_t size = 0;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &whole), 0);
	half = (struct rlimit){64 * KIB, whole.rlim_max};
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &half), 0);
	assert_int_equal(disk_write_now(f->disk, file, f->buf, 128 * KIB, 0), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &whole), 0);
	assert_int_equal(disk_size(f->disk, file, &size), 0);
	assert_int_equal(size, 64 * KIB);
	disk_close(f->disk, file);
}

/* From now on io_uring_setup() of this process answers code. */
static void
forbid_io_uring(unsigned code)
{
	struct sock_filter program[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | code),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {.len = 4, .filter = program};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
		_exit(3);
}

static int
refusal_says(unsigned code, const char *words)
{
	struct hf_error err = {0};
	struct disk *d;

	forbid_io_uring(code);
	if (disk_ring_create(8, &d, &err) != -(int)code)
		return 1;
	return strstr(err.text, words) != NULL ? 0 : 2;
}

static void
a_forbidden_ring_says_which_setting_to_change(void **state)
{
	static const struct {
		unsigned code;
		const char *words;
	} cases[] = {{EPERM, "kernel.io_uring_disabled"}, {EPERM, "seccomp"}, {ENOSYS, "kernel"}};

	for (size_t i = 0; i < 3; i++) {
		pid_t pid = fork();
		int status = -1;

		assert_true(pid >= 0);
		if (pid == 0)
			_exit(refusal_says(cases[i].code, cases[i].words));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
}

/* ---- the rules for one answer ---- */

static struct disk_op
op_of(enum disk_kind kind, size_t len)
{
	return (struct disk_op){.kind = (int)kind, .len = len};
}

static void
short_write_is_continued_from_the_last_whole_block(void **state)
{
	struct disk_op op = op_of(DISK_OP_WRITE, 524288);

	assert_false(disk_op_step(&op, 109056));
	assert_int_equal(op.done, 106496);
	assert_false(disk_op_step(&op, 4096));
	assert_int_equal(op.done, 110592);
	assert_true(disk_op_step(&op, 524288 - 110592));
	assert_int_equal(op.res, 0);
}

static void
write_without_progress_is_an_error(void **state)
{
	struct disk_op op = op_of(DISK_OP_WRITE, 8192);
	int steps = 0;

	assert_false(disk_op_step(&op, 4096));
	assert_true(disk_op_step(&op, 0));
	assert_int_equal(op.res, -EIO);
	op = op_of(DISK_OP_WRITE, 8192);
	while (!disk_op_step(&op, 512))
		steps++;
	assert_int_equal(steps, DISK_RETRIES_MAX);
	assert_int_equal(op.res, -EIO);
}

static void
busy_and_interrupted_are_retried_a_bounded_number_of_times(void **state)
{
	static const int codes[] = {-EAGAIN, -EINTR};

	for (size_t i = 0; i < 2; i++) {
		struct disk_op op = op_of(DISK_OP_SYNC, 0);
		int steps = 0;

		while (!disk_op_step(&op, codes[i]))
			steps++;
		assert_int_equal(steps, DISK_RETRIES_MAX);
		assert_int_equal(op.res, codes[i]);
	}
}

static void
failed_sync_is_not_retried(void **state)
{
	struct disk_op op = op_of(DISK_OP_SYNC, 0);

	assert_true(disk_op_step(&op, -EIO));
	assert_int_equal(op.res, -EIO);
}

static void
short_read_is_continued_until_nothing_comes(void **state)
{
	struct disk_op op = op_of(DISK_OP_READ, 5 * 4096);

	assert_false(disk_op_step(&op, 2 * 4096 + 512));
	assert_int_equal(op.done, 2 * 4096);
	assert_false(disk_op_step(&op, 4096));
	assert_true(disk_op_step(&op, 0));
	assert_int_equal(op.res, 3 * 4096);
}

/* ---- memory ---- */

static void
buffers_are_aligned_and_zeroed(void **state)
{
	static const size_t lens[] = {1, 4096, 100000, 2 * MIB, 3 * MIB + 5};

	for (size_t i = 0; i < 5; i++) {
		char *p = buffer_alloc(lens[i]);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % (lens[i] >= 2 * MIB ? 2 * MIB : 4096), 0);
		for (size_t j = 0; j < lens[i]; j++)
			assert_int_equal(p[j], 0);
		memset(p, 1, lens[i]);
		buffer_free(p, lens[i]);
	}
	buffer_free(NULL, 0);
}

/* Nothing of this can run where the kernel or the temporary directory refuses; say so once. */
static int
probe(void **state)
{
	static char reason[1200];
	const char *tmp = getenv("TMPDIR");
	struct hf_error err = {0};
	struct disk *d;
	struct disk_file *file;
	char path[300];
	int r = disk_ring_create(1, &d, &err);

	if (r < 0) {
		snprintf(reason, sizeof reason, "%s", err.text);
		skip_reason = reason;
		return 0;
	}
	snprintf(path, sizeof path, "%s/test_disk_ring.probe.%d", tmp != NULL ? tmp : "/var/tmp", getpid());
	r = disk_open(d, path, DISK_WRITE | DISK_CREATE, &file);
	if (r == -EOPNOTSUPP)
		skip_reason = "the temporary directory's file system refuses O_DIRECT (set TMPDIR)";
	if (r == 0) {
		disk_close(d, file);
		(void)unlink(path);
	}
	disk_destroy(d);
	return 0;
}

static int
setup_unless_skipped(void **state)
{
	return skip_reason != NULL ? 0 : setup(state);
}

static int
teardown_unless_skipped(void **state)
{
	return skip_reason != NULL ? 0 : teardown(state);
}

#define ON_DISK(name) cmocka_unit_test_setup_teardown(name, setup_unless_skipped, teardown_unless_skipped)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    ON_DISK(what_is_written_and_synced_is_read_back),
	    ON_DISK(every_wait_that_ends_is_a_turn),
	    ON_DISK(files_are_opened_for_direct_io_and_not_inherited),
	    ON_DISK(more_operations_than_the_ring_is_deep_all_finish_once),
	    ON_DISK(epoll_on_the_descriptor_wakes_up),
	    ON_DISK(waiting_runs_the_callbacks_of_others),
	    ON_DISK(a_callback_may_wait_for_another_operation),
	    ON_DISK(a_ring_may_be_created_and_registered_by_another_thread),
	    ON_DISK(registered_buffers_give_the_same_bytes),
	    ON_DISK(read_at_the_end_is_short_and_read_now_fails),
	    ON_DISK(a_file_opened_for_reading_refuses_writes),
	    ON_DISK(punched_ranges_read_as_zeros_and_are_no_data),
	    ON_DISK(allocate_grows_the_file_and_reads_as_zeros),
	    ON_DISK(list_is_in_byte_order),
	    ON_DISK(names_behave_as_posix_says),
	    ON_DISK(a_write_refused_half_way_reports_the_refusal),
	    cmocka_unit_test(a_forbidden_ring_says_which_setting_to_change),
	    cmocka_unit_test(short_write_is_continued_from_the_last_whole_block),
	    cmocka_unit_test(write_without_progress_is_an_error),
	    cmocka_unit_test(busy_and_interrupted_are_retried_a_bounded_number_of_times),
	    cmocka_unit_test(failed_sync_is_not_retried),
	    cmocka_unit_test(short_read_is_continued_until_nothing_comes),
	    cmocka_unit_test(buffers_are_aligned_and_zeroed),
	};

	return cmocka_run_group_tests(tests, probe, NULL);
}
