/* SPDX-License-Identifier: Apache-2.0 */
/* preflight.h: what a configuration names, looked at before a start: the data directory, the journals', keys and
 * certificates. */
#ifndef HF_SERVER_PREFLIGHT_H
#define HF_SERVER_PREFLIGHT_H

#include <stdio.h>

#include "server/config.h"

/* Would holdfastd start with it, as this user? Each problem is a line of `problems`. Makes nothing, and disturbs no
 * daemon that runs; but a key that others can read is closed to them, as at a start. 0, or negative: there was one.
 * Blocks. */
int preflight(const struct config *config, FILE *problems);

#endif
