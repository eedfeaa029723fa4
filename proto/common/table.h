/* SPDX-License-Identifier: Apache-2.0 */
/* table.h: rows for people (aligned, cut to the terminal's width, coloured) or for scripts (one tab between, never
 * cut). What comes from outside is made harmless: it is shown as text.h wants it. */
#ifndef HF_COMMON_TABLE_H
#define HF_COMMON_TABLE_H

#include <stdbool.h>
#include <stdio.h>

struct table;

struct table_column {
	const char *name;  /* for -o: stable */
	const char *title; /* header */
	bool right;        /* aligned */
	bool shrinks;      /* may be cut when the terminal is narrow */
	int rank;          /* 0: always shown; COLUMN_...; above: not on a terminal too narrow, the highest go first */
};

enum {
	COLUMN_BELOW = -1, /* at most one: on a terminal too narrow for all it is told whole, under its row; "-": not */
	COLUMN_EXTRA = 1,  /* shown only with -o */
};

enum table_mood { MOOD_PLAIN, MOOD_GOOD, MOOD_WARN, MOOD_BAD };

struct table_style {
	bool header;
	bool tabs;  /* one tab between, nothing cut */
	bool exact; /* the exact text of each cell */
	bool color;
	bool utf8;           /* the ellipsis may be one */
	int width;           /* 0: no limit */
	const char *columns; /* "name,state" (or titles, "newest-point"), "all", or NULL for those of rank 0 and those
				that fit */
};

/* The escape sequence that begins it; "" for a plain one. "\033[0m" ends it. */
const char *mood_color(enum table_mood mood);

/* columns is borrowed until table_destroy(). Aborts when out of memory, as all of these do. */
struct table *table_create(const struct table_column *columns, size_t count);
void table_destroy(struct table *t); /* NULL allowed */

/* A new row, whose cells are empty; then its cells, in any order. Copied. exact NULL: the same as human. */
void table_add_row(struct table *t);
void table_set(struct table *t, const char *column, const char *human, const char *exact, enum table_mood mood);

/* From now on as one of rank COLUMN_EXTRA: it would say the same in each row. */
void table_hide(struct table *t, const char *column);

/* 0, or -EINVAL: style->columns names one that does not exist; *ret_bad (may be NULL) points at it. */
int table_print(const struct table *t, const struct table_style *style, FILE *out, const char **ret_bad);

/* Columns a text takes on the terminal; a byte that is no character of the locale takes one. And how many bytes of it
 * fit into so many. */
int table_text_width(const char *text);
size_t table_bytes_that_fit(const char *text, int width);

/* "id, name, state": for messages. The caller's. */
char *table_names(const struct table *t);

#endif
