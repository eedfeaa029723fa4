/* SPDX-License-Identifier: Apache-2.0 */
/* change.h: something is changed at a source, or at several, and the answer is shown. All return the exit code. */
#ifndef HF_CTL_CHANGE_H
#define HF_CTL_CHANGE_H

#include <jansson.h>

#include "server/ctl/ctl.h"

/* POST body to a route of the source that the first operand names. Takes body (NULL: none). */
int change_source(struct ctl *ctl, const char *route, json_t *body);

/* What a change answered: the document with --json, else the source's id and a sentence. Takes answer. */
int print_change(const struct ctl *ctl, json_t *answer);

/* A request without a body to a route of each of an array of sources; --json prints {"items": answers}. All are tried,
 * unless none can succeed any more (ctl_is_hopeless()). Returns the first failure. */
int change_each(struct ctl *ctl, const char *method, const char *route, const json_t *sources);

#endif
