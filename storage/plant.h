/* SPDX-License-Identifier: Apache-2.0 */
/* plant.h: bugs planted on purpose, to prove that the tests would see them. Only in builds with -DPLANTS; elsewhere
 * PLANTED(n) is the constant false and costs nothing. `make check-planted` runs the crash test once for each and
 * expects it to fail. */
#ifndef HF_STORAGE_PLANT_H
#define HF_STORAGE_PLANT_H

#include <stdbool.h>
#include <stdlib.h>

/* X(number, what is wrong) */
#define PLANT_TABLE(X)                                                               \
	X(1, "acknowledged when written, before the sync")                           \
	X(2, "the journal is never synced")                                          \
	X(3, "staging files are not synced before the fill record")                  \
	X(4, "digest files are not synced before the fill record")                   \
	X(5, "the journal directory is not synced after a segment is made")          \
	X(6, "digests are not checked on arrival")                                   \
	X(7, "recovery does not check payload beyond the durable LSN")               \
	X(8, "fold: the base moves before the staging files are synced")             \
	X(9, "segments are removed before the catalog says the base has moved")      \
	X(10, "recovery takes a group whose descriptor does not match its checksum") \
	X(11, "a run is not synced before it takes the place of the open interval")  \
	X(12, "a fold goes to the newest point, not to the oldest that is kept")

#ifdef PLANTS
extern int planted; /* the bug that is on; 0 = none */
#define PLANTED(n) (planted == (n))
static inline void
plant_from_environment(void)
{
	const char *text = getenv("PLANT");

	planted = text != NULL ? atoi(text) : 0;
}
#else
#define PLANTED(n) false
static inline void
plant_from_environment(void)
{
}
#endif

#endif
