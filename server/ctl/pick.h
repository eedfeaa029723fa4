/* SPDX-License-Identifier: Apache-2.0 */
/* pick.h: values out of the API's JSON, and how people read them. Paths are keys joined by dots. Absent and null are
 * the same. */
#ifndef HF_CTL_PICK_H
#define HF_CTL_PICK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/common/table.h"
#include "server/ctl/ctl.h"

enum { SOURCE_TEXT_BYTES = 320 }; /* a host name and an id */

const json_t *pick(const json_t *json, const char *path);    /* NULL: absent */
const char *pick_text(const json_t *json, const char *path); /* "": absent; borrowed */
int64_t pick_integer(const json_t *json, const char *path);  /* 0: absent */
bool pick_bool(const json_t *json, const char *path);        /* false: absent */
int64_t pick_time_ns(const json_t *json, const char *path);  /* 0: absent */

/* What people call a source: its host name, or its id if it has none. Borrowed. */
const char *pick_source_name(const json_t *source);

/* Several of the sources are called so. */
bool name_is_shared(const json_t *sources, const char *name);

/* "db01", or "db01 (s-...)" where that name is shared. Returns buf. */
const char *format_source(const json_t *sources, const json_t *source, char *buf, size_t size);

/* It has brought data, and neither disk nor point of it is known: that has not been opened since the server was
 * started. */
bool pick_is_unopened(const json_t *source);

/* "3m12s ago", "in 59m00s", "never" for 0. buf: UNITS_TEXT_BYTES or more. */
const char *format_relative(int64_t ns, int64_t now_ns, char *buf, size_t size);

/* Cells of the row being made; "-" is what people see of something absent, "" what scripts see. */
void cell_text(struct table *t, const char *column, const json_t *json, const char *path);
void cell_number(struct table *t, const char *column, const json_t *json, const char *path,
    enum table_mood mood); /* mood: unless 0 */
void cell_bytes(struct table *t, const char *column, const json_t *json, const char *path);
void cell_rate(struct table *t, const char *column, const json_t *json, const char *path);
void cell_seconds(struct table *t, const char *column, const json_t *json, const char *path);
void cell_bool(struct table *t, const char *column, const json_t *json, const char *path);
void cell_relative(struct table *t, const char *column, const json_t *json, const char *path, int64_t now_ns);
void cell_time(struct table *t, const char *column, const json_t *json, const char *path);
/* What people call the source whose id is at the path: names has that by id; else the id itself. */
void cell_host(struct table *t, const char *column, const json_t *json, const char *path, const json_t *names);
void cell_state(struct table *t, const char *column, const json_t *source);

/* Print as -H, -p, -o, --color and the terminal want it, and destroy the table. Returns the exit code. */
int print_table(const struct ctl *ctl, struct table *t);

/* A line, broken between words where the terminal ends; what follows is indented by so many columns. */
void print_wrapped(const struct ctl *ctl, const char *text, int indent, enum table_mood mood);

/* The same of a plain sentence, which ends its line by itself. */
void print_sentence(int indent, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The document as it is. Takes it. */
int print_json(json_t *json);

#endif
