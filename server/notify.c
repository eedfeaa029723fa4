/* SPDX-License-Identifier: Apache-2.0 */
#include "server/notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/common/units.h"

/* A path, or @NAME of the abstract name space. False: there is none, or none that could be. */
static bool
find_manager(struct sockaddr_un *ret_address, socklen_t *ret_len)
{
	const char *name = getenv("NOTIFY_SOCKET");
	size_t len = name != NULL ? strlen(name) : 0;

	if (len < 2 || len >= sizeof ret_address->sun_path || (name[0] != '/' && name[0] != '@'))
		return false;
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(ret_address->sun_path, name, len);
	if (name[0] == '@')
		ret_address->sun_path[0] = '\0';
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	return true;
}

bool
notify_wanted(void)
{
	struct sockaddr_un address;
	socklen_t len;

	return find_manager(&address, &len);
}

static void __attribute__((format(printf, 2, 0))) send_text(int flags, const char *format, va_list ap)
{
	static const struct timeval patience = {10, 0};
	struct sockaddr_un address;
	socklen_t len;
	char text[1024];
	int fd;

	if (!find_manager(&address, &len))
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	vsnprintf(text, sizeof text, format, ap);
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	/* There is nobody to tell that the manager cannot be told. */
	(void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL | flags, (const struct sockaddr *)&address, len);
	close(fd);
}

void
notify_send(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	send_text(0, format, ap);
	va_end(ap);
}

void
notify_try(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	send_text(MSG_DONTWAIT, format, ap);
	va_end(ap);
}

int64_t
notify_watchdog_ns(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	long long n = usec != NULL ? strtoll(usec, NULL, 10) : 0;

	if (n <= 0 || n > INT64_MAX / 1000 || (pid != NULL && strtol(pid, NULL, 10) != getpid()))
		return 0;
	return n * 1000;
}
