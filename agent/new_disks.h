/* SPDX-License-Identifier: Apache-2.0 */
/* new_disks.h: disks that appear on this machine after its volumes were chosen. What was there at the agent's first
 * start and was not chosen is none of them, whenever it comes back. */
#ifndef HF_AGENT_NEW_DISKS_H
#define HF_AGENT_NEW_DISKS_H

#include "agent/disks.h"
#include "agent/state.h"

struct new_disks;

/* Remembers in st what is there, if that was not done before; st is the caller's to save. Borrows all three. Where
 * disks cannot be listed (in sys_root: /sys, but for tests) none is ever new. also: besides what list-disks marks with
 * *, disks whose path matches this pattern; NULL: none. */
int new_disks_create(
    const char *sys_root, struct state *st, const char *also, struct new_disks **ret_new_disks, struct hf_error *err);
void new_disks_destroy(struct new_disks *n); /* NULL allowed */

/* The first new disk that is no volume; untold: and was not told of. Looks at most every few seconds, and then until
 * there is no more. */
bool new_disks_find(struct new_disks *n, bool untold, struct disk_info *ret_disk);

/* Was a disk of this identity there when the last look was taken? */
bool new_disks_is_there(const struct new_disks *n, const char *identity);

/* It was told of: once, as long as it is there, in this process. */
void new_disks_told(struct new_disks *n, const struct disk_info *disk);

/* A name for it that no volume has, as its device is called: NAME_BYTES. */
void new_disks_name(const struct state *st, const struct disk_info *disk, char *ret_name);

#endif
