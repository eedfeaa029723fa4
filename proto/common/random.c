/* SPDX-License-Identifier: Apache-2.0 */
/* random.c: chance, in a file of its own: tests that must repeat themselves bring their own. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "proto/common/id.h"

/* Kernels before 3.17 have no getrandom(); an agent may run on 3.10. */
static ssize_t
read_urandom(void *buf, size_t len)
{
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, len);

	if (fd >= 0)
		close(fd);
	return n;
}

static ssize_t
read_some(void *buf, size_t len)
{
	ssize_t n = getrandom(buf, len, 0);

	return n < 0 && errno == ENOSYS ? read_urandom(buf, len) : n;
}

void
random_bytes(void *buf, size_t len)
{
	unsigned char *p = buf;

	while (len > 0) {
		ssize_t n = read_some(p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			abort();
		p += n;
		len -= (size_t)n;
	}
}
