/* SPDX-License-Identifier: Apache-2.0 */
/* completion.h: holdfast-agent completion, for the shells. */
#ifndef HF_AGENT_COMPLETION_H
#define HF_AGENT_COMPLETION_H

#include "agent/options.h"

/* Print the script of a shell, or what may stand where its cursor is. Returns the exit code. */
int completion_run(const struct options *o);

#endif
