/* SPDX-License-Identifier: Apache-2.0 */
/* plant.h: bugs planted on purpose, to prove that the tests would see them. Only in builds with -DPLANTS; elsewhere
 * PLANTED(n) is the constant false and costs nothing. `make check-planted` runs the crash test once for each and
 * expects it to fail. */
#ifndef HF_STORAGE_PLANT_H
#define HF_STORAGE_PLANT_H

#include <stdbool.h>

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
	X(12, "a fold goes to the newest point, not to the oldest that is kept")     \
	X(40, "old runs are removed before the merged one has its name")             \
	X(41, "one block too many is punched")                                       \
	X(42, "a packed segment is not synced before the run that lists it")         \
	X(43, "the version that one kept point sees is dropped")                     \
	X(45, "a merge takes no heed of what a view reads")                          \
	X(46, "segments are punched under a view that was made before the merge")    \
	X(47, "superseded runs are removed before the merged one's name is synced")  \
	X(60, "a first fill whose staging files failed to sync is taken for staged") \
	X(61, "a fold that failed to sync a staging file syncs it again, and no more")

#ifdef PLANTS
extern int planted; /* the bug that is on, from the environment (PLANT=n); 0 = none */
#define PLANTED(n) (planted == (n))
#else
#define PLANTED(n) false
#endif

#endif
