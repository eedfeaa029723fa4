/* SPDX-License-Identifier: Apache-2.0 */
/* advice.h: when room is short: which commands make some, and how much, as far as that is known. */
#ifndef HF_CTL_ADVICE_H
#define HF_CTL_ADVICE_H

#include <jansson.h>
#include <stddef.h>

#include "server/ctl/ctl.h"

enum { ADVICE_POINTS_MAX = 3 };

/* Those of a source's points, in order, that may be deleted to make room: neither held nor guarded, nor the newest.
 * What frees most comes first; of equals, and while that is not known, the oldest. Borrowed from pits. Returns how
 * many. */
size_t advice_points(const json_t *pits, const json_t *ret_points[ADVICE_POINTS_MAX]);

/* Prints nothing while there is room. Asks for the points of the source that is to give way; if that fails there is no
 * advice. */
void print_advice(struct ctl *ctl, const json_t *version, const json_t *sources);

#endif
