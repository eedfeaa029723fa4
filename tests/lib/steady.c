/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/steady.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/id.h"
#include "storage/disk.h"
#include "tests/lib/dice.h"

enum { SPARES_MAX = 32, CLEARED_BYTES_MAX = 16384 };

static const size_t HUGE_BYTES = 2 << 20;

static struct dice dice, left;
static struct {
	void *p;
	size_t bytes;
} spares[SPARES_MAX];

void
steady_seed(uint64_t seed)
{
	dice.state = seed;
	sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, (int)(seed % 1000003 + 1), NULL);
}

void
steady_leave(void)
{
	left = dice;
	sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SAVE);
}

void
steady_return(void)
{
	dice = left;
	sqlite3_test_control(SQLITE_TESTCTRL_PRNG_RESTORE);
}

void
random_bytes(void *buf, size_t len)
{
	unsigned char *p = buf;

	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)(dice_next(&dice) >> 32);
}

static size_t
whole_pages(size_t len)
{
	return (len + DISK_ALIGN - 1) / DISK_ALIGN * DISK_ALIGN;
}

void *
buffer_alloc(size_t len)
{
	size_t bytes = whole_pages(len);
	void *p = NULL;

	for (int i = 0; i < SPARES_MAX && p == NULL; i++)
		if (spares[i].p != NULL && spares[i].bytes == bytes) {
			p = spares[i].p;
			spares[i].p = NULL;
		}
	if (p == NULL && posix_memalign(&p, bytes >= HUGE_BYTES ? HUGE_BYTES : DISK_ALIGN, bytes) != 0)
		return NULL;
	return memset(p, 0, bytes < CLEARED_BYTES_MAX ? bytes : CLEARED_BYTES_MAX);
}

void
buffer_free(void *buf, size_t len)
{
	for (int i = 0; i < SPARES_MAX && buf != NULL; i++)
		if (spares[i].p == NULL) {
			spares[i].p = buf;
			spares[i].bytes = whole_pages(len);
			return;
		}
	free(buf);
}
