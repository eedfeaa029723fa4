/* SPDX-License-Identifier: Apache-2.0 */
/* random.c: chance, in a file of its own: tests that must repeat themselves bring their own. */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proto/common/id.h"

void
random_bytes(void *buf, size_t len)
{
	unsigned char *p = buf;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			abort();
		p += n;
		len -= (size_t)n;
	}
}
