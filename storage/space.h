/* SPDX-License-Identifier: Apache-2.0 */
/* space.h: how short of room a source is, and what goes first. Who watches the staging area says it to the store
 * (store_set_space()), which then acts in this order, a step at a time, each after the effect of the last was measured:
 *
 *	SPACE_SHORTEN  the journal window is halved, down to nothing (but not below minRetention)
 *	SPACE_THIN     and then, if that is allowed, the oldest point goes that the policy alone keeps
 *	SPACE_FULL     nothing new is taken any more; what is left serves folds, merges, runs and the catalog
 *
 * Nothing goes while retention is frozen. Pure functions: no clock, no disk. */
#ifndef HF_STORAGE_SPACE_H
#define HF_STORAGE_SPACE_H

#include "storage/catalog.h"

enum space_level { SPACE_EASY, SPACE_SHORTEN, SPACE_THIN, SPACE_FULL };

struct space {
	enum space_level level;
	bool thin;              /* points may be given up */
	uint64_t room_bytes;    /* what the source may still take, until it is told again */
	uint64_t reserve_bytes; /* of what is free on the file system, for maintenance alone */
	int64_t measured_ns;    /* clock_monotonic */
};

/* "default", "stall", "thin"; parse: false, if it is none of them. */
const char *when_full_name(enum when_full when_full);
bool when_full_parse(const char *text, enum when_full *ret_when_full);

/* "easy", "shorten", ... */
const char *space_level_name(enum space_level level);

/* Where a source stands with a quota of quota_bytes (0: none). *ret_room_bytes: what is left of it. */
enum space_level space_judge_quota(
    uint64_t used_bytes, uint64_t quota_bytes, enum space_level was, uint64_t *ret_room_bytes);

/* The level for so much room, when the levels SHORTEN, THIN and FULL begin below limits[0..2] (falling). One is left
 * only when there is half as much again: not back and forth. */
enum space_level space_judge(int64_t room_bytes, const uint64_t limits[3], enum space_level was);

/* The next shorter journal window, when it reaches back span_ns now: half of that, nothing if that is less than a
 * second, but never less than min_ns (which may be more than span_ns: then span_ns). */
int64_t space_shorter_window(int64_t span_ns, int64_t min_ns);

#endif
