/* SPDX-License-Identifier: Apache-2.0 */
/* options.h: the table of options, and help and parsing made from it and from the table of commands. */
#ifndef HF_CTL_OPTIONS_H
#define HF_CTL_OPTIONS_H

#include "server/ctl/ctl.h"

struct option_spec {
	const char *name;  /* without the dashes */
	char letter;       /* 0: none */
	const char *value; /* what follows it, as shown; NULL: nothing */
	const char *help;
	bool global;
};

/* By option_id; OPTIONS of them. */
const struct option_spec *option_specs(void);

/* Fill ctl from a command line. -1: run ctl->command; else the exit code: help was printed, or the mistake was said.
 * argv is permuted and must outlive ctl. */
int options_parse(struct ctl *ctl, int argc, char **argv);

#endif
