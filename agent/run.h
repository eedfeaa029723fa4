/* SPDX-License-Identifier: Apache-2.0 */
/* run.h: the command run: the agent at work, from reading its state to the goodbye. */
#ifndef HF_AGENT_RUN_H
#define HF_AGENT_RUN_H

#include "agent/options.h"

/* Returns the program's exit code; SIGTERM and SIGINT end it with 0. */
int run_run(const struct options *o);

#endif
