/* SPDX-License-Identifier: Apache-2.0 */
/* rig_verbs.h: the kinds of things a store does, one letter each, for scripts on a tiny rig. */
#ifndef HF_TESTS_RIG_VERBS_H
#define HF_TESTS_RIG_VERBS_H

#include "tests/lib/store_rig.h"

struct rig_verb {
	char letter;
	const char *name;
	bool (*act)(struct rig *g); /* false: there is nothing of that kind to do now */
};

extern const struct rig_verb rig_verbs[];
extern const unsigned rig_verb_count;

/* Do what the letter says, and wait until what it sent is durable. */
bool rig_act(struct rig *g, const struct rig_verb *verb);
const struct rig_verb *rig_verb_find(char letter);

/* Power loss (when `survival` is not what a killed process leaves), recovery, and what was not acknowledged once more.
 * False, and g->fault is set, when anything is not as it was. */
bool rig_come_back(struct rig *g);

#endif
