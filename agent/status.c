/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>
#include <pthread.h>

#include "agent/say.h"
#include "agent/state.h"
#include "proto/common/table.h"
#include "proto/common/terminal.h"
#include "proto/common/units.h"
#include "proto/common/wrap.h"

#define SOCKET_NAME "agent.sock"

struct status_server {
	int fd, stop_fd;
	char *path;
	status_text_cb *cb;
	void *arg;
	pthread_t thread;
};

/* A socket's name has 107 bytes, a path may have more: go through the directory's descriptor. */
static int
open_directory(const char *directory, struct sockaddr_un *ret_address)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ret_address->sun_family = AF_UNIX;
	snprintf(ret_address->sun_path, sizeof ret_address->sun_path, "/proc/self/fd/%d/" SOCKET_NAME, fd);
	return fd < 0 ? -errno : fd;
}

static int
listen_in(const char *directory)
{
	struct sockaddr_un address = {0};
	int dir = open_directory(directory, &address);
	int fd = dir < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = fd;

	if (dir < 0)
		return dir;
	(void)unlink(address.sun_path); /* left by an agent that was killed; the lock says it is gone */
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 8) < 0) {
		r = -errno;
		if (fd >= 0)
			(void)close(fd); /* nobody is connected */
	}
	(void)close(dir); /* only read from */
	return r;
}

/* ---- the server ---- */

static void
answer(struct status_server *s)
{
	struct timeval patience = {.tv_sec = 1};
	int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
	char *text;
	size_t len, done = 0;

	if (fd < 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); /* else a reader could hold us */
	text = s->cb(s->arg);
	len = text != NULL ? strlen(text) : 0;
	while (done < len) {
		ssize_t n = send(fd, text + done, len - done, MSG_NOSIGNAL);

		if (n <= 0)
			break; /* the reader went away */
		done += (size_t)n;
	}
	free(text);
	(void)close(fd); /* the reader sees the end, or is gone */
}

static void *
serve(void *arg)
{
	struct status_server *s = arg;

	for (;;) {
		struct pollfd p[2] = {{.fd = s->fd, .events = POLLIN}, {.fd = s->stop_fd, .events = POLLIN}};

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents != 0)
			return NULL;
		answer(s);
	}
}

static int
start_thread(struct status_server *s)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals belong to the main thread */
	r = pthread_create(&s->thread, NULL, serve, s);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

static void
free_server(struct status_server *s)
{
	if (s->fd >= 0)
		(void)close(s->fd); /* nothing is lost */
	if (s->stop_fd >= 0)
		(void)close(s->stop_fd); /* an eventfd */
	free(s->path);
	free(s);
}

int
status_server_start(
    const char *state_directory, status_text_cb *cb, void *arg, struct status_server **ret_server, struct hf_error *err)
{
	struct status_server *s = calloc(1, sizeof *s);
	char path[PATH_MAX];
	int r;

	if (s == NULL)
		return hf_error_set(err, -ENOMEM, "status socket");
	s->cb = cb;
	s->arg = arg;
	s->path = strdup(state_path(state_directory, SOCKET_NAME, path));
	s->stop_fd = eventfd(0, EFD_CLOEXEC);
	s->fd = listen_in(state_directory);
	r = s->fd < 0 ? s->fd : s->stop_fd < 0 || s->path == NULL ? -ENOMEM : start_thread(s);
	if (r < 0) {
		free_server(s);
		return hf_error_set(err, r, "listen on %s", path);
	}
	*ret_server = s;
	return 0;
}

void
status_server_stop(struct status_server *s)
{
	const uint64_t one = 1;

	if (s == NULL)
		return;
	(void)!write(s->stop_fd, &one, sizeof one); /* the counter was 0: it cannot fail */
	pthread_join(s->thread, NULL);
	(void)unlink(s->path);
	free_server(s);
}

/* ---- the command ---- */

static int
connect_to(const char *directory)
{
	struct sockaddr_un address = {0};
	int dir = open_directory(directory, &address);
	int fd = dir < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = fd;

	if (dir < 0)
		return dir;
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		r = -errno;
		if (fd >= 0)
			(void)close(fd); /* not connected */
	}
	(void)close(dir); /* only read from */
	return r;
}

static json_t *
query(const char *directory, struct hf_error *err)
{
	int fd = connect_to(directory);
	json_error_t trouble;
	json_t *root;

	if (fd < 0) {
		hf_error_set(err, fd,
		    fd == -EACCES ? "the agent on %s may be asked by root alone"
				  : "no agent is running on %s (systemctl start holdfast-agent)",
		    directory);
		return NULL;
	}
	root = json_loadfd(fd, 0, &trouble);
	(void)close(fd); /* read to the end */
	if (root == NULL)
		hf_error_say(err, -EBADMSG, "the agent's answer: %s", trouble.text);
	return root;
}

static const char *
text_of(json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "-";
}

enum { LABEL_WIDTH = 13 };

static void print_line(const char *label, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
print_line(const char *label, const char *format, ...)
{
	char text[2048], line[sizeof text + LABEL_WIDTH];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	snprintf(line, sizeof line, "%-*s%s", LABEL_WIDTH, label, text);
	wrap_print(stdout, line, terminal_width(STDOUT_FILENO), LABEL_WIDTH, "");
}

static void
print_size(const char *label, json_t *object, const char *key)
{
	char size[UNITS_TEXT_BYTES];

	print_line(label, "%s", size_format((uint64_t)json_integer_value(json_object_get(object, key)), size));
}

static const struct table_column columns[] = {
    {"name", "VOLUME", false, false, 0},
    {"size", "SIZE", true, false, 0},
    {"done", "DONE", true, false, 0},
    {"state", "STATE", false, false, 0},
    {"device", "DEVICE", false, true, 0},
};

static void
add_volume(struct table *t, json_t *v)
{
	uint64_t done = (uint64_t)json_integer_value(json_object_get(v, "doneBytes"));
	uint64_t total = (uint64_t)json_integer_value(json_object_get(v, "totalBytes"));
	uint64_t size = (uint64_t)json_integer_value(json_object_get(v, "totalStorageBytes"));
	char text[UNITS_TEXT_BYTES], percent[16] = "-";

	if (total > 0)
		snprintf(percent, sizeof percent, "%.1f %%", 100.0 * (double)done / (double)total);
	table_add_row(t);
	table_set(t, "name", text_of(v, "name"), NULL, MOOD_PLAIN);
	table_set(t, "size", size_format(size, text), NULL, MOOD_PLAIN);
	table_set(t, "done", percent, NULL, MOOD_PLAIN);
	table_set(t, "state", text_of(v, "state"), NULL, MOOD_PLAIN);
	table_set(t, "device", text_of(v, "deviceName"), NULL, MOOD_PLAIN);
}

static void
print_volumes(json_t *volumes)
{
	const struct table_style style = {.header = true, .width = terminal_width(STDOUT_FILENO)};
	struct table *t = table_create(columns, sizeof columns / sizeof columns[0]);
	json_t *v;
	size_t i;

	json_array_foreach (volumes, i, v) {
		add_volume(t, v);
	}
	(void)table_print(t, &style, stdout, NULL); /* which fails only over columns that were asked for by name */
	table_destroy(t);
}

/* What is wrong with the connection, and with each disk. */
static void
print_troubles(json_t *root)
{
	json_t *v;
	size_t i;

	if (json_is_string(json_object_get(root, "lastError")))
		print_line("Trouble", "%s", text_of(root, "lastError"));
	json_array_foreach (json_object_get(root, "volumes"), i, v) {
		if (json_is_string(json_object_get(v, "text")))
			print_line("Trouble", "volume %s: %s", text_of(v, "name"), text_of(v, "text"));
	}
}

static void
print_status(json_t *root)
{
	bool connected = json_is_true(json_object_get(root, "connected"));

	print_line("Source", "%s", text_of(root, "sourceServerID"));
	print_line("Server", "%s (%s)", text_of(root, "server"), connected ? "connected" : "not connected");
	print_line("Since", "%s", text_of(root, connected ? "connectedSince" : "disconnectedSince"));
	print_troubles(root);
	print_line("Activity", "%s", text_of(root, "activity"));
	print_line("Checkpoint", "%s (%s)", text_of(root, "lastCheckpointDateTime"),
	    text_of(root, "lastCheckpointConsistency"));
	print_size("Backlog", root, "backloggedStorageBytes");
	print_size("Sent", root, "sentBytes");
	print_size("Sent again", root, "resentBytes");
	print_volumes(json_object_get(root, "volumes"));
}

int
status_run(const struct options *o)
{
	struct hf_error err;
	json_t *root = query(o->state_directory, &err);

	if (root == NULL) {
		say("%s", err.text);
		return err.code == -EBADMSG ? EXIT_FAILED : EXIT_UNREACHABLE;
	}
	if (o->json) {
		json_dumpf(root, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		print_status(root);
	}
	json_decref(root);
	return EXIT_OK;
}
