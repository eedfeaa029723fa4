/* SPDX-License-Identifier: Apache-2.0 */
/* precedence.h: which sources give way while the server cannot take all that comes. One for all workers: a source that
 * is late, and that the server itself holds up, claims to go before all that have more time; they ask whether they are
 * meant. A claim lasts PRECEDENCE_NS: whoever still needs it claims again. Any thread; never blocks. */
#ifndef HF_SERVER_PRECEDENCE_H
#define HF_SERVER_PRECEDENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/common/units.h"

#define PRECEDENCE_NS (2 * NS_PER_SECOND)

struct precedence { /* all zero: nobody claims */
	_Atomic int64_t due_ns, until_ns;
};

/* Whoever is due later than due_ns (real clock) gives way. An earlier claim that still lasts stands. now_ns: monotonic.
 */
void precedence_claim(struct precedence *p, int64_t due_ns, int64_t now_ns);

/* Does one that is due then give way? */
bool precedence_yields(const struct precedence *p, int64_t due_ns, int64_t now_ns);

#endif
