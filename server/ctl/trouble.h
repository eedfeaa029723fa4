/* SPDX-License-Identifier: Apache-2.0 */
/* trouble.h: what is wrong with the sources, since when, and what to do next, in sentences; and which comes first. */
#ifndef HF_CTL_TROUBLE_H
#define HF_CTL_TROUBLE_H

#include <jansson.h>
#include <stdint.h>

#include "server/ctl/ctl.h"

/* How many need somebody: they stall, are gone, or have an error. */
size_t count_troubled(const json_t *sources);

/* A list of the same sources, the worst first: what needs somebody, what is on its way, what is well; of equals the one
 * furthest behind. The caller's. */
json_t *sort_by_trouble(const json_t *sources);

/* For each that is not well, of a list in that order: its state since when and why, and what to do next. The first
 * few; nothing, and false, if all are well. Wrapped to the terminal. */
bool print_trouble(const struct ctl *ctl, const json_t *sources, int64_t now_ns);

#endif
