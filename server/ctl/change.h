/* SPDX-License-Identifier: Apache-2.0 */
/* change.h: something is changed at a source, and the answer is shown. Both return the exit code. */
#ifndef HF_CTL_CHANGE_H
#define HF_CTL_CHANGE_H

#include <jansson.h>

#include "server/ctl/ctl.h"

/* POST body to a route of the source that the first operand names. Takes body (NULL: none). */
int change_source(struct ctl *ctl, const char *route, json_t *body);

/* What a change answered: the document with --json, else the source's id and a sentence. Takes answer. */
int print_change(const struct ctl *ctl, json_t *answer);

#endif
