/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/steady.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/id.h"
#include "storage/disk.h"
#include "tests/lib/dice.h"

enum { SPARES_MAX = 32, CLEARED_BYTES_MAX = 16384, LOOKASIDE_BYTES = 512, LOOKASIDE_COUNT = 400 };

static const size_t HUGE_BYTES = 2 << 20;

static struct dice dice, left;
static struct {
	void *p;
	size_t bytes;
} spares[SPARES_MAX];

/* ---- SQLite's memory ---- */

/* Every crash state opens a database, which is thousands of small pieces; SQLite's own count of what they hold, and
 * malloc's search for a place, were a fifth of the test's time. Here they lie by size, in steps, and what is given back
 * is the next to be given out. The sanitizers see every piece go. */
#ifdef __SANITIZE_ADDRESS__
enum { STEP_BYTES = 16, STEPS = 0 };
#else
enum { STEP_BYTES = 16, STEPS = 320 };
#endif

struct piece {
	size_t bytes;
	struct piece *next; /* while it is spare; else what it holds begins here */
};

static struct piece *pieces[STEPS + 1];

static int
piece_round(int bytes)
{
	return (bytes + STEP_BYTES - 1) / STEP_BYTES * STEP_BYTES;
}

static void *
piece_alloc(int bytes)
{
	size_t step = (size_t)piece_round(bytes) / STEP_BYTES;
	struct piece *p = step <= STEPS ? pieces[step] : NULL;

	if (p != NULL)
		pieces[step] = p->next;
	else if ((p = malloc(offsetof(struct piece, next) + step * STEP_BYTES)) == NULL)
		return NULL;
	p->bytes = step * STEP_BYTES;
	return &p->next;
}

static struct piece *
piece_of(void *memory)
{
	return (struct piece *)((char *)memory - offsetof(struct piece, next));
}

static void
piece_free(void *memory)
{
	struct piece *p = piece_of(memory);
	size_t step = p->bytes / STEP_BYTES;

	if (step > STEPS) {
		free(p);
		return;
	}
	p->next = pieces[step];
	pieces[step] = p;
}

static int
piece_size(void *memory)
{
	return memory != NULL ? (int)piece_of(memory)->bytes : 0;
}

static void *
piece_realloc(void *memory, int bytes)
{
	void *larger = piece_alloc(bytes);

	if (larger == NULL)
		return NULL;
	memcpy(larger, memory, (size_t)(bytes < piece_size(memory) ? bytes : piece_size(memory)));
	piece_free(memory);
	return larger;
}

static int
pieces_init(void *arg)
{
	return SQLITE_OK;
}

static void
pieces_shutdown(void *arg)
{
}

static const sqlite3_mem_methods piece_methods = {
    .xMalloc = piece_alloc,
    .xFree = piece_free,
    .xRealloc = piece_realloc,
    .xSize = piece_size,
    .xRoundup = piece_round,
    .xInit = pieces_init,
    .xShutdown = pieces_shutdown,
};

void
steady_alone(void)
{
	if (sqlite3_config(SQLITE_CONFIG_MALLOC, &piece_methods) != SQLITE_OK ||
	    sqlite3_config(SQLITE_CONFIG_SINGLETHREAD) != SQLITE_OK ||
	    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) != SQLITE_OK ||
	    sqlite3_config(SQLITE_CONFIG_LOOKASIDE, LOOKASIDE_BYTES, LOOKASIDE_COUNT) != SQLITE_OK)
		abort();
}

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
