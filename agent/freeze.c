/* SPDX-License-Identifier: Apache-2.0 */
/* A frozen file system stops whoever writes to it; if we died now, it would stop them for good. So we never freeze
 * anything ourselves. A guard, forked before the first freeze, does it on command:
 *
 *	agent --"freeze, at most 5 s"--> guard --fork--> freezer: FIFREEZE a, FIFREEZE b, ... ends
 *	agent <--------"frozen"--------- guard
 *	  (reads the disks)              waits for a command, for the end of the time, or for the agent's end
 *	agent ---------"thaw"----------> guard: FITHAW b, FITHAW a
 *	agent <--"stood until now"------ guard      (or "was too late")
 *
 * The guard locks its memory (it must not wait for a page from a disk that stands still), keeps nothing open but its
 * socket and its record, is in a session of its own (a terminal's ^C does not reach it) and is the last to be chosen
 * when memory runs out. When the agent is gone, even by SIGKILL, its socket ends, and the guard thaws and leaves.
 *
 * FIFREEZE writes out what is dirty and may take long, in a sleep no signal ends. So it is done in a third
 * process, the freezer, and the guard stays awake: at the end of the time it thaws what stands and marks the attempt as
 * abandoned; the freezer, when it comes back, sees that and thaws its last one. Each mount's fate is one atomic word in
 * memory shared by the two, so exactly one of them thaws it.
 *
 * Guard and agent may both be killed by SIGKILL within one freeze: systemd does that to a whole service. So the guard
 * writes down what it is about to freeze (freeze_record.c) and strikes it out when all is thawed; what is left in such
 * a record is thawed by whoever comes next: `holdfast-agent thaw`, which systemd runs after every kind of end, the next
 * agent, or, if only the guard was killed, this one. A file system found frozen already is not ours, and is left so.
 *
 * Mount points are opened anew for each freeze, and closed after it: nothing keeps an administrator from unmounting in
 * between. */
#include "agent/freeze.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/freeze_record.h"
#include "agent/mounts.h"
#include "agent/thaw.h"
#include "proto/common/units.h"

enum {
	GUARD_SOCKET = 3, /* the guard's only descriptors beside 0 to 2, which are /dev/null */
	GUARD_RECORD = 4,
	GUARD_START_MS = 10 * 1000,
	REPLY_GRACE_MS = 5 * 1000, /* the guard answers within the timeout; beyond this it is taken for dead */
};

struct command {
	enum { COMMAND_FREEZE = 1, COMMAND_THAW = 2 } what;
	int64_t timeout_ns;
};

enum { WHICH_NONE = -1, WHICH_RECORD = -2 }; /* none in particular; writing them down */

struct reply {
	int result;
	int which; /* the mount point that failed, or: */
};

struct freeze {
	const char *const *mountpoints;
	size_t count;
	const char *directory;      /* of records */
	char record_path[PATH_MAX]; /* the guard's */
	int socket;                 /* to the guard; < 0 = there is none */
	pid_t guard;
};

/* ---- the freezer and what it shares with the guard ---- */

enum mount_fate { FATE_NONE, FATE_TRIED, FATE_FROZEN, FATE_THAWED };

struct attempt {
	_Atomic int fates[FREEZE_MOUNTS_MAX]; /* enum mount_fate */
	atomic_bool abandoned;
	_Atomic int error, failed; /* of the freezer: -errno and which mount */
};

struct guard {
	const struct freeze *config;
	size_t count;
	struct attempt *attempt;
	int fds[FREEZE_MOUNTS_MAX];
	struct frozen_mount mounts[FREEZE_MOUNTS_MAX]; /* what was opened last */
	int freezer_ended; /* end of file when the freezer is gone; < 0 = none was started */
	bool is_frozen;
	int64_t deadline_ns;
};

/* What has this fate, by whoever wins the exchange, once. */
static void
thaw_one(struct guard *g, size_t i, int fate)
{
	if (atomic_compare_exchange_strong(&g->attempt->fates[i], &fate, FATE_THAWED))
		(void)ioctl(g->fds[i], FITHAW, 0); /* fails only if it is not frozen, or somebody else has thawed it */
}

/* FIFREEZE writes out what is dirty, and whoever wants to write waits for it. So most of it is written before; that may
 * take the whole time there is, and then nothing is frozen. */
static void
sync_mounts(const struct guard *g)
{
	for (size_t i = 0; i < g->count && !atomic_load(&g->attempt->abandoned); i++)
		(void)syncfs(g->fds[i]); /* what fails here fails for FIFREEZE, too */
}

static void
run_freezer(struct guard *g)
{
	sync_mounts(g);
	for (size_t i = 0; i < g->count && !atomic_load(&g->attempt->abandoned); i++) {
		atomic_store(&g->attempt->fates[i], FATE_TRIED);
		if (ioctl(g->fds[i], FIFREEZE, 0) < 0) {
			atomic_store(&g->attempt->fates[i], FATE_NONE);
			atomic_store(&g->attempt->failed, (int)i);
			atomic_store(&g->attempt->error, -errno);
			break;
		}
		atomic_store(&g->attempt->fates[i], FATE_FROZEN);
		if (atomic_load(&g->attempt->abandoned))
			thaw_one(g, i, FATE_FROZEN);
	}
	_exit(0);
}

/* ---- the guard ---- */

static void
close_mounts(struct guard *g)
{
	for (size_t i = 0; i < g->count; i++) {
		if (g->fds[i] >= 0)
			close(g->fds[i]);
		g->fds[i] = -1;
	}
}

/* An earlier attempt may still hang in FIFREEZE: until it is back there cannot be another. */
static bool
is_freezer_busy(struct guard *g)
{
	struct pollfd p = {.fd = g->freezer_ended};

	if (g->freezer_ended < 0)
		return false;
	if (poll(&p, 1, 0) == 0)
		return true;
	close(g->freezer_ended);
	g->freezer_ended = -1;
	return false;
}

/* While the freezer is busy it may yet freeze one, and thaws that itself, or is killed; so this is called again when it
 * is gone. */
static void
thaw_all(struct guard *g)
{
	bool is_over = !is_freezer_busy(g);

	for (size_t i = g->count; i > 0; i--) {
		thaw_one(g, i - 1, FATE_FROZEN);
		if (is_over)
			thaw_one(g, i - 1, FATE_TRIED);
	}
	g->is_frozen = false;
	if (!is_over)
		return;
	freeze_record_strike(GUARD_RECORD);
	close_mounts(g);
}

/* All of them before the first is frozen: a path may lead through another one's file system. */
static struct reply
open_mounts(struct guard *g)
{
	for (size_t i = 0; i < g->count; i++) {
		int r;

		g->mounts[i].mountpoint = g->config->mountpoints[i];
		g->fds[i] = open(g->mounts[i].mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = g->fds[i] < 0 ? -errno : file_system_get(g->fds[i], &g->mounts[i].file_system);
		if (r < 0)
			return (struct reply){.result = r, .which = (int)i};
	}
	return (struct reply){.result = 0, .which = WHICH_NONE};
}

static struct reply
write_record(struct guard *g)
{
	int r = freeze_record_write(GUARD_RECORD, g->mounts, g->count);

	return (struct reply){.result = r, .which = r < 0 ? WHICH_RECORD : WHICH_NONE};
}

static int
left_ms(int64_t deadline_ns)
{
	int64_t left_ns = deadline_ns - clock_monotonic_ns();

	return left_ns <= 0 ? 0 : (int)(left_ns / 1000000 + 1);
}

static int
start_freezer(struct guard *g)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	memset(g->attempt, 0, sizeof *g->attempt);
	pid = fork();
	if (pid == 0) {
		close(GUARD_SOCKET); /* its end must mean the guard's end */
		close(ends[0]);
		run_freezer(g);
	}
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return -errno;
	}
	g->freezer_ended = ends[0];
	return 0;
}

/* Wait for the freezer, the end of the time, or the end of the agent. 0, -ETIME. */
static int
await_freezer(struct guard *g)
{
	struct pollfd p[2] = {{.fd = g->freezer_ended}, {.fd = GUARD_SOCKET}}; /* no events: only the hang-ups */

	while (poll(p, 2, left_ms(g->deadline_ns)) < 0)
		if (errno != EINTR)
			return -errno;
	if (p[0].revents == 0)
		return -ETIME;
	close(g->freezer_ended);
	g->freezer_ended = -1;
	return 0;
}

/* Of one that has ended: in its own way, or killed. */
static struct reply
freezer_result(const struct guard *g)
{
	int error = atomic_load(&g->attempt->error);

	if (error != 0)
		return (struct reply){.result = error, .which = atomic_load(&g->attempt->failed)};
	for (size_t i = 0; i < g->count; i++)
		if (atomic_load(&g->attempt->fates[i]) != FATE_FROZEN)
			return (struct reply){.result = -EINTR, .which = (int)i};
	return (struct reply){.result = 0, .which = WHICH_NONE};
}

static struct reply
freeze_mounts(struct guard *g)
{
	struct reply reply = open_mounts(g);

	if (reply.result == 0)
		reply = write_record(g);
	if (reply.result == 0)
		reply.result = start_freezer(g);
	if (reply.result == 0)
		reply.result = await_freezer(g);
	if (reply.result == 0)
		reply = freezer_result(g);
	if (reply.result < 0) {
		atomic_store(&g->attempt->abandoned, true);
		thaw_all(g);
		return reply;
	}
	g->is_frozen = true;
	return reply;
}

static struct reply
obey_freeze(struct guard *g, const struct command *c)
{
	if (is_freezer_busy(g))
		return (struct reply){.result = -ETIME, .which = WHICH_NONE};
	thaw_all(g); /* also what a freezer that was given up has left, which may have ended this very moment */
	g->deadline_ns = clock_monotonic_ns() + c->timeout_ns;
	return freeze_mounts(g);
}

static struct reply
obey_thaw(struct guard *g)
{
	struct reply reply = {.result = g->is_frozen ? 0 : -ETIME, .which = WHICH_NONE};

	thaw_all(g);
	return reply;
}

/* One command, the end of the time, or that of a freezer that was given up. False when the agent is gone. */
static bool
guard_step(struct guard *g)
{
	struct pollfd p[2] = {{.fd = GUARD_SOCKET, .events = POLLIN}, {.fd = g->freezer_ended}};
	int n = poll(p, 2, g->is_frozen ? left_ms(g->deadline_ns) : -1);
	struct command c;
	struct reply reply;

	if (n < 0)
		return errno == EINTR;
	if (n == 0 || p[1].revents != 0)
		thaw_all(g);
	if (n == 0 || p[0].revents == 0)
		return true;
	if (recv(GUARD_SOCKET, &c, sizeof c, 0) != (ssize_t)sizeof c)
		return false;
	reply = c.what == COMMAND_FREEZE ? obey_freeze(g, &c) : obey_thaw(g);
	return send(GUARD_SOCKET, &reply, sizeof reply, MSG_NOSIGNAL) == (ssize_t)sizeof reply;
}

/* Out of the way of the others' new places first. 0 or -errno. */
static int
keep_only(int socket_fd, int record)
{
	int opened = open("/dev/null", O_RDWR);
	int null_fd = fcntl(opened, F_DUPFD, GUARD_RECORD + 1);
	int moved = fcntl(record, F_DUPFD, GUARD_RECORD + 1);

	if (moved < 0 || dup2(socket_fd, GUARD_SOCKET) < 0 || dup2(moved, GUARD_RECORD) < 0)
		return -errno;
	for (int fd = 0; fd < 3 && null_fd >= 0; fd++)
		(void)dup2(null_fd, fd);
	closefrom(GUARD_RECORD + 1); /* the agent's lock, connection and end of the socket among them; by any kernel */
	return 0;
}

static void
refuse_to_die(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2};
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		(void)signal(signals[i], SIG_IGN);
	(void)signal(SIGCHLD, SIG_IGN); /* freezers are not waited for */
	(void)setsid();
	(void)prctl(PR_SET_NAME, "holdfast-guard");
	if (fd >= 0) {
		(void)!write(fd, "-1000", 5); /* not permitted: then not */
		close(fd);
	}
}

/* The whole life of the guard. Forked from a process with threads: only system calls are safe here,
 * no malloc, no stdio. */
static void
run_guard(const struct freeze *f, int socket_fd, int record)
{
	struct guard g = {.config = f, .count = f->count, .freezer_ended = -1};
	struct reply ready = {.result = keep_only(socket_fd, record), .which = WHICH_NONE};

	if (ready.result < 0)
		_exit(1);
	refuse_to_die();
	for (size_t i = 0; i < FREEZE_MOUNTS_MAX; i++)
		g.fds[i] = -1;
	g.attempt = mmap(NULL, sizeof *g.attempt, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (g.attempt == MAP_FAILED || mlockall(MCL_CURRENT) < 0)
		ready.result = -errno;
	if (send(GUARD_SOCKET, &ready, sizeof ready, MSG_NOSIGNAL) == (ssize_t)sizeof ready && ready.result == 0)
		while (guard_step(&g))
			;
	if (ready.result == 0) {
		atomic_store(&g.attempt->abandoned, true);
		thaw_all(&g);
	}
	if (!is_freezer_busy(&g))
		(void)unlink(f->record_path); /* struck out: whoever finds it has nothing to do */
	_exit(0);
}

/* ---- the agent's side ---- */

static int
receive_reply(struct freeze *f, int timeout_ms, struct reply *ret_reply)
{
	struct pollfd p = {.fd = f->socket, .events = POLLIN};
	int64_t deadline_ns = clock_monotonic_ns() + (int64_t)timeout_ms * 1000000;
	int n;

	do
		n = poll(&p, 1, left_ms(deadline_ns));
	while (n < 0 && errno == EINTR);
	if (n <= 0 || recv(f->socket, ret_reply, sizeof *ret_reply, 0) != (ssize_t)sizeof *ret_reply)
		return -EPIPE;
	return 0;
}

static void
end_guard(struct freeze *f)
{
	if (f->socket < 0)
		return;
	close(f->socket); /* the guard thaws and leaves */
	f->socket = -1;
	while (waitpid(f->guard, NULL, 0) < 0 && errno == EINTR)
		;
	f->guard = 0;
}

/* Its process, with its ends of socket and record, which are closed here. */
static int
fork_guard(struct freeze *f, const int *ends, int record)
{
	int r;

	f->guard = fork();
	if (f->guard == 0)
		run_guard(f, ends[1], record);
	r = f->guard < 0 ? -errno : 0;
	close(ends[1]);
	close(record);
	if (r < 0)
		close(ends[0]);
	else
		f->socket = ends[0];
	return r;
}

static int
start_guard(struct freeze *f, struct hf_error *err)
{
	int record = freeze_record_create(f->directory, f->record_path, err);
	struct reply ready;
	int ends[2], r;

	if (record < 0)
		return record;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		r = -errno;
		close(record);
		return hf_error_set(err, r, "socket to the freeze guard");
	}
	r = fork_guard(f, ends, record);
	if (r < 0)
		return hf_error_set(err, r, "start the freeze guard");
	r = receive_reply(f, GUARD_START_MS, &ready);
	if (r == 0)
		r = ready.result;
	if (r < 0) {
		end_guard(f);
		return hf_error_set(err, r, "the freeze guard cannot lock its memory (it needs CAP_IPC_LOCK)");
	}
	return 0;
}

int
freeze_create(const char *const *mountpoints, size_t count, const char *directory, struct freeze **ret_freeze,
    struct hf_error *err)
{
	struct freeze *f = calloc(1, sizeof *f);
	int r;

	if (f == NULL)
		return hf_error_set(err, -ENOMEM, "freeze guard");
	assert(count > 0 && count <= FREEZE_MOUNTS_MAX);
	f->mountpoints = mountpoints;
	f->count = count;
	f->directory = directory;
	f->socket = -1;
	r = start_guard(f, err);
	if (r < 0) {
		free(f);
		return r;
	}
	*ret_freeze = f;
	return 0;
}

void
freeze_destroy(struct freeze *f)
{
	if (f == NULL)
		return;
	end_guard(f);
	free(f);
}

static int
call_guard(struct freeze *f, const struct command *c, int timeout_ms, struct reply *ret_reply)
{
	int r = 0;

	if (f->socket < 0 || send(f->socket, c, sizeof *c, MSG_NOSIGNAL) != (ssize_t)sizeof *c)
		r = -EPIPE;
	if (r == 0)
		r = receive_reply(f, timeout_ms, ret_reply);
	if (r < 0) {
		end_guard(f);
		thaw_left_logged(f->directory); /* by a guard that was killed */
	}
	return r;
}

int
freeze_begin(struct freeze *f, int64_t timeout_ns, struct hf_error *err)
{
	struct command c = {.what = COMMAND_FREEZE, .timeout_ns = timeout_ns};
	struct reply reply = {.which = WHICH_NONE};
	char may[UNITS_TEXT_BYTES];
	int r = f->socket < 0 ? start_guard(f, err) : 0;

	if (r < 0)
		return r;
	r = call_guard(f, &c, (int)(timeout_ns / 1000000) + REPLY_GRACE_MS, &reply);
	if (r < 0)
		return hf_error_set(err, r, "the freeze guard is gone");
	if (reply.result == -EBUSY)
		return hf_error_say(err, -EBUSY,
		    "%s is frozen already, not by us; if nobody wants it so: fsfreeze --unfreeze "
		    "%s",
		    f->mountpoints[reply.which], f->mountpoints[reply.which]);
	if (reply.which == WHICH_RECORD)
		return hf_error_set(
		    err, reply.result, "nothing is frozen that is not written down first, in %s", f->record_path);
	if (reply.result == -ETIME)
		return hf_error_say(err, -ETIME,
		    "what was not yet written to the file systems could not be within %s; they are not frozen",
		    duration_format(timeout_ns, may));
	if (reply.result < 0)
		return hf_error_set(err, reply.result, "freezing %s",
		    reply.which >= 0 ? f->mountpoints[reply.which] : "the file systems");
	return 0;
}

int
freeze_end(struct freeze *f)
{
	struct command c = {.what = COMMAND_THAW};
	struct reply reply;
	int r = call_guard(f, &c, REPLY_GRACE_MS, &reply);

	return r < 0 ? r : reply.result;
}

int
freeze_guard_pid(const struct freeze *f)
{
	return f->guard;
}

/* ---- what that covers ---- */

static bool
is_to_be_frozen(const struct freeze *f, const struct mount *m)
{
	struct file_system wanted, there;

	if (mount_file_system(m, &wanted) < 0)
		return false;
	for (size_t i = 0; i < f->count; i++)
		if (file_system_at(f->mountpoints[i], &there) == 0 && file_system_is(&there, &wanted))
			return true;
	return false;
}

bool
freeze_covers(const struct freeze *f, const struct disk_info *disk)
{
	struct mounts *mounts = mounts_open();
	size_t frozen = 0, others = 0;
	struct mount m;

	if (mounts == NULL)
		return false;
	while (mounts_next(mounts, &m)) {
		if (m.is_read_only || m.device == 0 || !disks_carries(disk, m.device))
			continue;
		if (is_to_be_frozen(f, &m))
			frozen++;
		else
			others++;
	}
	mounts_close(mounts);
	return frozen > 0 && others == 0;
}
