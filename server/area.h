/* SPDX-License-Identifier: Apache-2.0 */
/* area.h: the staging area's file system: how much room there is, how fast it fills, and the reserve.
 *
 * The reserve is room that maintenance alone may use, for without it nothing could be freed any more: a fold writes its
 * blocks into the staging files before their segments go, a merge writes its run before the old ones go, and deleting a
 * point is a commit of SQLite. It is real: the file `reserve`, preallocated, so that neither a log on the same file
 * system nor a fill that is faster than our measuring can eat it. When there is no room left beside it the file is cut,
 * a quarter at a time, which needs none, and made again when there is. Where nothing can be preallocated it is only
 * counted.
 *
 *	room = free + held by the file - reserve - extra
 *
 * A fold of a run that was merged from many may take more than the reserve, when what it writes lies in holes of the
 * staging files. So much is counted as taken, too, or the day would come when it is needed and not there.
 *
 * All decisions are taken on `room`, which stays the same whether the file is there or not. */
#ifndef HF_SERVER_AREA_H
#define HF_SERVER_AREA_H

#include "server/trend.h"
#include "storage/space.h"

struct area_facts {
	uint64_t total_bytes, free_bytes; /* of the file system; free: as an ordinary user sees it */
	uint64_t reserve_bytes;           /* wanted */
	uint64_t held_bytes;              /* of it, by the file */
	uint64_t extra_bytes; /* counted beside it: what the largest fold and merge there may be would take */
	int64_t room_bytes;   /* negative: the reserve is in use */
	enum space_level level;
	bool low;            /* less room than the warning level */
	int64_t measured_ns; /* clock_monotonic, before it was */
	bool growth_known;
	int64_t growth_bytes_per_day, growth_measured_ns;
};

enum { AREA_DATA, AREA_JOURNAL, AREAS };

struct area_settings {
	uint64_t reserve_bytes; /* 0: as much as maintenance needs */
	uint64_t segment_bytes; /* the largest */
	unsigned warning_percent;
};

/* What maintenance needs on a file system of total_bytes: a fold's batch, a segment and a run, but not more than a
 * 20th. Pure, as the next. */
uint64_t area_reserve(const struct area_settings *settings, uint64_t total_bytes);
/* Set room_bytes, level and low from the rest; facts->level and ->low are those of before. */
void area_judge(struct area_facts *facts, unsigned warning_percent);

/* Time until the room is used up at today's growth; -1: not known, or it does not grow. */
int64_t area_full_in_ns(const struct area_facts *facts);

struct area;
/* Measures, and makes room for a start on a full disk. path: the data directory. Blocks. */
int area_create(const char *path, const struct area_settings *settings, struct area **ret_area, struct hf_error *err);
void area_destroy(struct area *a); /* NULL allowed; the reserve stays */

/* Measure, judge, and release the reserve or make it. Blocks. Any thread. 0 or -errno. */
int area_measure(struct area *a, int64_t now_ns);

/* For a change that somebody asked for and that found no space: release more of the reserve, at once. Blocks. Any
 * thread. False: there is nothing left of it. */
bool area_make_room(struct area *a, int64_t now_ns);

/* What maintenance of a source may take before it gives any back; told about once a second. Any thread. */
void area_tell_need(struct area *a, uint64_t bytes);

/* Maintenance found no space there, whatever was measured (Btrfs counts what was allocated only when its transaction is
 * through): more of the reserve is given out. Any thread. */
void area_tell_full(struct area *a);

const char *area_path(const struct area *a);
void area_get(struct area *a, struct area_facts *ret_facts); /* any thread */

/* The same for a store: what the source may take, and what of the free bytes it must leave. Pure. */
struct space area_space(const struct area_facts *facts);

#endif
