/* SPDX-License-Identifier: Apache-2.0 */
/* trial.h: whether it helps a source that the others give way. What it is short of may be shared with them, a disk or a
 * line, or its own alone, and nobody can tell from here: so it is tried.
 *
 *	BEFORE -> DURING -> HELPED -> RELEASED -> BEFORE ...
 *	                 -> VAIN   -> BEFORE ...
 *
 * What it brings for four seconds without, it must bring a quarter more of with. That may take a while to be seen: what
 * the others have on their way comes first. So five seconds are looked at, and then five more. It then goes first for
 * two minutes, while each ten seconds are as good, and is tried again when what it was given is taken back. If it did
 * not help, the others are left in peace for five minutes. Pure; small, for every source has one. */
#ifndef HF_SERVER_TRIAL_H
#define HF_SERVER_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

enum trial_phase {
	TRIAL_NONE,   /* it needs nothing */
	TRIAL_BEFORE, /* what it brings as things are */
	TRIAL_DURING, /* what it brings while the others give way */
	TRIAL_HELPED,
	TRIAL_RELEASED, /* until the others are back: they hear of it, and begin again */
	TRIAL_VAIN,
};

struct trial { /* all zero: none */
	enum trial_phase phase;
	unsigned turn; /* how often this phase was entered without another between */
	int64_t since_ns;
	uint64_t since_bytes;
	double rate_before; /* bytes a nanosecond */
};

/* About once a second. needed: the source wants to go first. bytes: that it ever brought. now_ns: monotonic. True: the
 * others are to give way. */
bool trial_tick(struct trial *t, bool needed, uint64_t bytes, int64_t now_ns);

#endif
