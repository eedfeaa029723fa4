/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/leaving.h"

#include <stdlib.h>

/* As many are free, or discarded, by one commit of the file system's journal: 2 ms on ext4. */
#define STEP_BYTES (UINT64_C(8) << 20)

struct leaving_file {
	struct leaving_file *next;
	struct disk_file *file;
};

void
leaving_add(struct leaving *l, struct disk *d, struct disk_file *f)
{
	struct leaving_file *e = malloc(sizeof *e);

	if (e == NULL) {
		disk_close(d, f);
		return;
	}
	*e = (struct leaving_file){l->first, f};
	l->first = e;
}

struct leaving
leaving_take(struct leaving *l)
{
	struct leaving taken = *l;

	l->first = NULL;
	return taken;
}

static void
close_first(struct leaving *l, struct disk *d)
{
	struct leaving_file *e = l->first;

	l->first = e->next;
	disk_close(d, e->file);
	free(e);
}

static int
shorten(struct disk *d, struct disk_file *f, int (*pause)(void *arg), void *arg)
{
	uint64_t bytes;
	int r = 0;

	if (disk_size(d, f, &bytes) < 0)
		return 0;
	while (r >= 0 && bytes > STEP_BYTES) {
		bytes = (bytes - 1) / STEP_BYTES * STEP_BYTES;
		if (disk_truncate(d, f, bytes) < 0)
			return 0;
		r = pause(arg);
	}
	return r;
}

int
leaving_free(struct leaving *l, struct disk *d, int (*pause)(void *arg), void *arg)
{
	int r = 0;

	while (r >= 0 && l->first != NULL) {
		r = shorten(d, l->first->file, pause, arg);
		if (r >= 0) {
			close_first(l, d);
			r = pause(arg);
		}
	}
	return r < 0 ? r : 0;
}

void
leaving_close(struct leaving *l, struct disk *d)
{
	while (l->first != NULL)
		close_first(l, d);
}
