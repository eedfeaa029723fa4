/* SPDX-License-Identifier: Apache-2.0 */
/* bench_ask: asks a control socket at a steady pace, over one connection, one question after the other, until its
 * standard input ends. What it costs itself is little: it shares the processors with what is measured.
 *
 *	bench_ask SOCKET PER_SECOND PATH...      prints one line of JSON: how many a second, and the 99th percentile */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proto/common/units.h"

enum {
	ANSWERS_MAX = 1 << 20,
	ANSWER_BYTES_MAX = 4 << 20,
};

static char answer[ANSWER_BYTES_MAX + 1];
static int64_t took_ns[ANSWERS_MAX];

static void
fail(const char *what)
{
	fprintf(stderr, "bench_ask: %s: %s\n", what, errno != 0 ? strerror(errno) : "not an answer");
	exit(1);
}

static int
dial(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		fail(path);
	return fd;
}

/* Length of the whole answer, once its head is there; else 0. */
static size_t
answer_bytes(void)
{
	const char *end = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "\r\nContent-Length:");

	if (end == NULL)
		return 0;
	if (length == NULL || length > end ||
	    (strncmp(answer, "HTTP/1.1 200 ", 13) != 0 && strncmp(answer, "HTTP/1.1 503 ", 13) != 0))
		fail(answer);
	return (size_t)(end + 4 - answer) + strtoul(length + 17, NULL, 10);
}

static void
ask(int fd, const char *path)
{
	char request[512];
	int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);

	if (write(fd, request, (size_t)len) != len)
		fail(path);
	for (size_t have = 0, all = 0; have == 0 || have < all || all == 0;) {
		ssize_t n = read(fd, answer + have, ANSWER_BYTES_MAX - have);

		if (n <= 0)
			fail(path);
		have += (size_t)n;
		answer[have] = '\0';
		if (all == 0)
			all = answer_bytes();
	}
}

/* False: standard input has ended. */
static bool
wait_until(int64_t ns)
{
	int64_t left = ns - clock_monotonic_ns();
	struct timespec ts = {left > 0 ? left / NS_PER_SECOND : 0, left > 0 ? left % NS_PER_SECOND : 0};
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

	return ppoll(&input, 1, &ts, NULL) == 0;
}

static int
compare_times(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
	int64_t begun_ns = clock_monotonic_ns();
	double per_second = argc > 3 ? strtod(argv[2], NULL) : 0;
	size_t n = 0;
	int fd;

	if (per_second <= 0) {
		fprintf(stderr, "usage: bench_ask SOCKET PER_SECOND PATH...\n");
		return 2;
	}
	fd = dial(argv[1]);
	while (n < ANSWERS_MAX && wait_until(begun_ns + (int64_t)((double)(n * NS_PER_SECOND) / per_second))) {
		int64_t asked_ns = clock_monotonic_ns();

		ask(fd, argv[3 + n % (size_t)(argc - 3)]);
		took_ns[n++] = clock_monotonic_ns() - asked_ns;
	}
	if (n == 0)
		fail("nothing was asked");
	qsort(took_ns, n, sizeof took_ns[0], compare_times);
	printf("{\"rate\": %.1f, \"p99_ms\": %.3f}\n",
	    (double)n * NS_PER_SECOND / (double)(clock_monotonic_ns() - begun_ns), (double)took_ns[n * 99 / 100] / 1e6);
	return 0;
}
