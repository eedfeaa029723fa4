/* SPDX-License-Identifier: Apache-2.0 */
/* find.h: what people type, to what the API knows. Errors are said on stderr; the exit code is returned. */
#ifndef HF_CTL_FIND_H
#define HF_CTL_FIND_H

#include <jansson.h>

#include "proto/common/table.h"
#include "server/ctl/ctl.h"

/* The source with this id, unique beginning of an id, or host name. Gives its JSON. */
int find_source(struct ctl *ctl, const char *text, json_t **ret_source);

/* All sources, or with --tag those that have it. Gives an array. */
int find_sources(struct ctl *ctl, json_t **ret_sources);

/* The source that the first operand names; all (or those with the tag) if there is none. Gives an array. */
int find_named_or_all(struct ctl *ctl, json_t **ret_sources);

/* What people call each of the sources, by id. Gives. */
json_t *find_names(const json_t *sources);

/* A table with a row for each of them, which add() fills. */
int print_sources(const struct ctl *ctl, const json_t *sources, const struct table_column *columns, size_t column_count,
    void (*add)(struct table *t, const json_t *source, int64_t now_ns));

/* Below an empty table of sources, for people: what to do then. print_sources() does it. */
void print_if_none(const struct ctl *ctl, const json_t *sources);

/* The item of an array of sources that text means; borrowed. NULL: none, or several: *ret_code, and it was said. */
const json_t *match_source(const json_t *sources, const char *text, int *ret_code);

/* All points of a source, in order. Gives an array. */
int find_pits(struct ctl *ctl, const char *source_id, json_t **ret_pits);

/* What --at means: a point's id or name, "latest", an RFC 3339 time, or "-15m": the newest complete point not later,
 * crash-consistent or better unless fuzzy; one that stayed true for a while is found at every moment of it. Borrowed
 * from pits. *ret_gap_ns: how much older it is than the time asked for; 0 for ids and names. NULL: see ret_code. */
const json_t *match_pit(
    const json_t *pits, const char *at, bool fuzzy, int64_t now_ns, int64_t *ret_gap_ns, int *ret_code);

#endif
