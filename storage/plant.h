/* SPDX-License-Identifier: Apache-2.0 */
/* plant.h: bugs planted on purpose, to prove that the tests would see them. Only in builds with -DPLANTS; elsewhere
 * PLANTED(n) is the constant false and costs nothing. `make check-planted` runs tests with each and expects one of them
 * to fail. */
#ifndef HF_STORAGE_PLANT_H
#define HF_STORAGE_PLANT_H

#include <stdbool.h>

/* X(number, what is wrong) */
#define PLANT_TABLE(X)                                                                 \
	X(1, "acknowledged when written, before the sync")                             \
	X(2, "the journal is never synced")                                            \
	X(3, "staging files are not synced before the fill record")                    \
	X(4, "digest files are not synced before the fill record")                     \
	X(5, "the journal directory is not synced after a segment is made")            \
	X(6, "digests are not checked on arrival")                                     \
	X(7, "recovery does not check payload beyond the durable LSN")                 \
	X(8, "fold: the base moves before the staging files are synced")               \
	X(9, "segments are removed before the catalog says the base has moved")        \
	X(10, "recovery takes a group whose descriptor does not match its checksum")   \
	X(11, "a run is not synced before it takes the place of the open interval")    \
	X(12, "a fold goes to the newest point, not to the oldest that is kept")       \
	X(13, "the names of a new volume's files are not synced before its row")       \
	X(14, "the chain of the stream is not recovered: no resume can be proved")     \
	X(15, "fold: the base moves before the digest files are synced")               \
	X(16, "fold: the base moves before anything is written")                       \
	X(17, "a fill is recorded before its staging files are synced")                \
	X(18, "a fill is acknowledged when staged, before its record is written")      \
	X(19, "recovery relies on a tail that a failed sync has marked clean")         \
	X(20, "recovery does not sync the tail that it relies on")                     \
	X(21, "a checkpoint is a point before it is durable")                          \
	X(22, "the newest point to recover from expires")                              \
	X(23, "what a cut left beyond the frontier of a digest file stays")            \
	X(24, "a failed segment is read beyond where the next one goes on")            \
	X(25, "damage in the middle of the journal is taken for a torn tail")          \
	X(26, "a sync that failed is tried again on the same blocks")                  \
	X(27, "a sync acknowledges what was written after it began")                   \
	X(28, "after a failed write the journal goes on from what was not durable")    \
	X(29, "a point of half filled volumes is called complete")                     \
	X(30, "a fold passes checkpoints of the journal window")                       \
	X(31, "a fold passes a view that is being read")                               \
	X(32, "the segment with the record at the fold's target is removed")           \
	X(33, "the catalog does not sync its commits")                                 \
	X(34, "a block is not checked against its digest when it is read")             \
	X(35, "a block is not checked against its digest when it is folded")           \
	X(36, "a sealed segment is cut one block short")                               \
	X(37, "a held point expires")                                                  \
	X(38, "a volume is swept that the catalog knows")                              \
	X(39, "a number of the journal is given twice, before and after a restart")    \
	X(40, "old runs are removed before the merged one has its name")               \
	X(41, "one block too many is punched")                                         \
	X(42, "a packed segment is not synced before the run that lists it")           \
	X(43, "the version that one kept point sees is dropped")                       \
	X(46, "segments are punched under a view that was made before the merge")      \
	X(47, "superseded runs are removed before the merged one's name is synced")    \
	X(48, "a source that is not there grows older")                                \
	X(49, "a clock that jumps makes points grow old")                              \
	X(50, "what is frozen expires")                                                \
	X(51, "points are given up though the source is to stall")                     \
	X(52, "more is given up before it was measured what the last step brought")    \
	X(53, "a point is given up while somebody holds it")                           \
	X(54, "the catalog lets a fold pass a held point")                             \
	X(55, "a catalog's rows are not compared with their seal")                     \
	X(56, "a catalog's copy brings back points whose data is gone")                \
	X(57, "a catalog that was made anew lets points expire")                       \
	X(58, "a held point is deleted")                                               \
	X(59, "a point that a rule keeps too loses its name and its hold")             \
	X(60, "a first fill whose staging files failed to sync is taken for staged")   \
	X(61, "a fold that failed to sync a staging file syncs it again, and no more") \
	X(62, "a rotten block is packed")                                              \
	X(63, "the new name of what is deleted is not synced")                         \
	X(64, "points outlive a volume that they have")                                \
	X(80, "a healed block is not synced")                                          \
	X(81, "a block is healed with whatever bytes come")                            \
	X(82, "a scrub does not look at the versions in the journal")                  \
	X(83, "a scrub makes digests of whatever is there")                            \
	X(84, "a scrub judges what a fold has left half done")                         \
	X(85, "a scrub verifies points that came after it began")                      \
	X(86, "a point stays verified that damage hits")                               \
	X(87, "damage is told of points that do not see it")                           \
	X(88, "a stream that is shorter than was acknowledged is gone on with")        \
	X(89, "a stream from before the newest one is gone on with")

#ifdef PLANTS
extern int planted; /* the bug that is on, from the environment (PLANT=n); 0 = none */
#define PLANTED(n) (planted == (n))
#else
#define PLANTED(n) false
#endif

#endif
