/* SPDX-License-Identifier: Apache-2.0 */
/* rubbish.h: what is left of sources that were deleted (storage/discard.h), removed by and by on the maintenance
 * thread, a bounded piece between its other jobs; gone on with at the next start. */
#ifndef HF_SERVER_RUBBISH_H
#define HF_SERVER_RUBBISH_H

struct server;

/* Any thread. There may be some now. One that is at work already goes on. */
void rubbish_start(struct server *sv);

#endif
