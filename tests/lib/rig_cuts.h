/* SPDX-License-Identifier: Apache-2.0 */
/* rig_cuts.h: the moments at which the power could go while a rig does something. Each is kept as a fork of the rig, at
 * rest: what is on its disk, what is pending there, and what the agent has been promised by then.
 *
 * A moment is kept only when it differs from the one before: there is a new pending change, or more is owed. */
#ifndef HF_TESTS_RIG_CUTS_H
#define HF_TESTS_RIG_CUTS_H

#include "tests/lib/store_rig.h"

struct rig_cut {
	struct rig *rig;
	uint64_t fresh; /* pending changes that are new since the cut before, as a set: see SIM_SURVIVE_CHOSEN */
	bool owes;      /* more than at the cut before */
};

enum { RIG_CUTS_MAX = 400 };

/* From now on, of one rig at a time; one of so many (1 = every) is kept. */
void rig_cuts_begin(struct rig *g, unsigned stride);
/* The last one is the state now. Returns how many there are; the list is valid until rig_cuts_free(). */
unsigned rig_cuts_end(struct rig *g, const struct rig_cut **ret_cuts);
void rig_cuts_free(void);

#endif
