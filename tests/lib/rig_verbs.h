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

/* The store is opened, and what was not acknowledged is sent once more. False, and g->fault is set, when anything is
 * not as it was. */
bool rig_come_back(struct rig *g);

/* The agent has forgotten what was not acknowledged, and begins a new stream; false: the one it has was not begun. */
bool rig_begin_anew(struct rig *g);

/* All that is left of a volume is zeros; false: they are all filled. */
bool rig_fill_zeros(struct rig *g);

#endif
