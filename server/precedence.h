/* SPDX-License-Identifier: Apache-2.0 */
/* precedence.h: which sources give way while not all that they have can come. One for all workers: a source that is
 * late, and that this helps (server/trial.h), claims to go before all that have more time; they ask whether they are
 * meant, and how much each may still bring. However many they are, together that is what the claimant leaves them;
 * whoever has something to bring says so. A claim lasts PRECEDENCE_NS: whoever still needs it claims again. Who: any
 * address, its own. Any thread; never blocks. */
#ifndef HF_SERVER_PRECEDENCE_H
#define HF_SERVER_PRECEDENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/common/units.h"

#define PRECEDENCE_NS (2 * NS_PER_SECOND)

enum { PRECEDENCE_LEAST_BYTES = 1024 }; /* of each, a second: more than its heartbeats take */

struct precedence { /* all zero: nobody claims */
	_Atomic(const void *) claimant;
	_Atomic int64_t due_ns, until_ns;
	_Atomic uint64_t left;
	_Atomic unsigned sharers;
};

/* Whoever is due later than due_ns (real clock) gives way. Another's earlier claim that still lasts stands. left:
 * bytes a second that all of them may bring together. now_ns: monotonic. */
void precedence_claim(struct precedence *p, const void *who, int64_t due_ns, uint64_t left, int64_t now_ns);
/* Its claim, if it has one, ends. */
void precedence_withdraw(struct precedence *p, const void *who);

/* Does one that is due then give way? */
bool precedence_yields(const struct precedence *p, const void *who, int64_t due_ns, int64_t now_ns);

/* One that gives way has something to bring, or no more: it counts in the share. *counted is its own, false at first.
 */
void precedence_count(struct precedence *p, bool *counted, bool shares);

/* Bytes a second that each of them may bring: never nothing. */
uint64_t precedence_share(const struct precedence *p);

#endif
