/* SPDX-License-Identifier: Apache-2.0 */
/* leaving.h: files that have no name any more, on their way out. The last close of such a file gives its bytes back,
 * which takes a file system 50 ms for 256 MiB, and holds up every sync where it discards them: nothing for the thread
 * that acknowledges. Only files whose removal is durable may come here, for they are shortened. */
#ifndef HF_STORAGE_LEAVING_H
#define HF_STORAGE_LEAVING_H

#include "storage/disk.h"

struct leaving {
	struct leaving_file *first;
};

void leaving_add(struct leaving *l, struct disk *d, struct disk_file *f); /* takes f; closes it when out of memory */
struct leaving leaving_take(struct leaving *l);                           /* all there are */

/* Shorten each from its end, 8 MiB at a time, and close it. Blocking. pause(arg) is called after every step and may
 * return less than 0 to give up: then that is returned, and the others stay. What fails is closed as it is. */
int leaving_free(struct leaving *l, struct disk *d, int (*pause)(void *arg), void *arg);

void leaving_close(struct leaving *l, struct disk *d); /* all, as they are */

#endif
