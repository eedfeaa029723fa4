/* SPDX-License-Identifier: Apache-2.0 */
/* advice.h: when room is short: which commands make some, and how much, as far as that is known. */
#ifndef HF_CTL_ADVICE_H
#define HF_CTL_ADVICE_H

#include <jansson.h>

#include "server/ctl/ctl.h"

/* Prints nothing while there is room. Asks for the points of the source that is to give way; nothing is said if that
 * fails, for it is only a comfort. */
void print_advice(struct ctl *ctl, const json_t *version, const json_t *sources);

#endif
