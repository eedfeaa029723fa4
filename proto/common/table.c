/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/table.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "proto/common/text.h"
#include "proto/common/wrap.h"

enum {
	COLUMNS_MAX = 32,
	GAP = 2,
	SHRUNK_WIDTH_MIN = 6,
	SHRUNK_WIDTH_EASY = 14, /* hosts can still be told apart */
	BELOW_INDENT = 4,
};

struct cell {
	char *human, *exact; /* exact NULL: as human; human NULL: empty */
	enum table_mood mood;
};

struct table {
	const struct table_column *columns;
	size_t column_count;
	bool hidden[COLUMNS_MAX];
	struct cell *cells; /* row after row */
	size_t row_count, row_capacity;
};

/* What is shown of a table: which columns, and how wide. */
struct view {
	size_t columns[COLUMNS_MAX];
	int widths[COLUMNS_MAX];
	size_t count;
	ssize_t below; /* the column under each row; -1: none */
};

/* Out of memory in a program that prints tables: there is nothing better to do. */
static void *
must(void *p)
{
	if (p == NULL)
		abort();
	return p;
}

struct table *
table_create(const struct table_column *columns, size_t count)
{
	struct table *t = must(calloc(1, sizeof *t));

	assert(count > 0 && count <= COLUMNS_MAX);
	t->columns = columns;
	t->column_count = count;
	return t;
}

void
table_destroy(struct table *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->row_count * t->column_count; i++) {
		free(t->cells[i].human);
		free(t->cells[i].exact);
	}
	free(t->cells);
	free(t);
}

void
table_add_row(struct table *t)
{
	if (t->row_count == t->row_capacity) {
		t->row_capacity = t->row_capacity == 0 ? 16 : t->row_capacity * 2;
		t->cells = must(realloc(t->cells, t->row_capacity * t->column_count * sizeof *t->cells));
	}
	memset(&t->cells[t->row_count * t->column_count], 0, t->column_count * sizeof *t->cells);
	t->row_count++;
}

/* "newest-point" is NEWEST POINT. */
static bool
is_titled(const struct table_column *column, const char *name, size_t len)
{
	size_t i = 0;

	while (i < len && name[i] == (column->title[i] == ' ' ? '-' : tolower((unsigned char)column->title[i])))
		i++;
	return i == len && column->title[i] == '\0';
}

/* By its name; else by what stands over it, which is what people have seen. */
static ssize_t
find_column(const struct table *t, const char *name, size_t len)
{
	for (size_t i = 0; i < t->column_count; i++)
		if (strlen(t->columns[i].name) == len && memcmp(t->columns[i].name, name, len) == 0)
			return (ssize_t)i;
	for (size_t i = 0; i < t->column_count; i++)
		if (len > 0 && is_titled(&t->columns[i], name, len))
			return (ssize_t)i;
	return -1;
}

void
table_hide(struct table *t, const char *column)
{
	ssize_t i = find_column(t, column, strlen(column));

	assert(i >= 0);
	t->hidden[i] = true;
}

void
table_set(struct table *t, const char *column, const char *human, const char *exact, enum table_mood mood)
{
	ssize_t i = find_column(t, column, strlen(column));
	struct cell *cell;

	assert(i >= 0 && t->row_count > 0);
	cell = &t->cells[(t->row_count - 1) * t->column_count + (size_t)i];
	assert(cell->human == NULL); /* set once */
	cell->human = text_copy(human);
	cell->exact = exact == NULL ? NULL : text_copy(exact);
	cell->mood = mood;
}

/* ---- text on a terminal ---- */

int
table_text_width(const char *text)
{
	mbstate_t state = {0};
	int width = 0;

	while (*text != '\0') {
		wchar_t c;
		size_t n = mbrtowc(&c, text, MB_CUR_MAX, &state);
		int w = n == (size_t)-1 || n == (size_t)-2 ? 1 : wcwidth(c);

		if (n == (size_t)-1 || n == (size_t)-2) {
			memset(&state, 0, sizeof state);
			n = 1;
		}
		width += w < 0 ? 1 : w;
		text += n;
	}
	return width;
}

size_t
table_bytes_that_fit(const char *text, int width)
{
	mbstate_t state = {0};
	const char *p = text;

	while (*p != '\0') {
		wchar_t c;
		size_t n = mbrtowc(&c, p, MB_CUR_MAX, &state);
		int w = n == (size_t)-1 || n == (size_t)-2 ? 1 : wcwidth(c);

		if (n == (size_t)-1 || n == (size_t)-2) {
			memset(&state, 0, sizeof state);
			n = 1;
		}
		w = w < 0 ? 1 : w;
		if (w > width)
			break;
		width -= w;
		p += n;
	}
	return (size_t)(p - text);
}

static const char *
cell_text(const struct table *t, const struct table_style *style, size_t row, size_t column)
{
	const struct cell *cell = &t->cells[row * t->column_count + column];

	if (style->exact && cell->exact != NULL)
		return cell->exact;
	return cell->human == NULL ? "" : cell->human;
}

/* ---- which columns, how wide ---- */

static int
choose_columns(const struct table *t, const char *names, struct view *v, const char **ret_bad)
{
	v->count = 0;
	v->below = -1;
	if (names == NULL || strcmp(names, "all") == 0) {
		for (size_t i = 0; i < t->column_count; i++)
			if (names != NULL || (t->columns[i].rank != COLUMN_EXTRA && !t->hidden[i]))
				v->columns[v->count++] = i;
		return 0;
	}
	for (const char *p = names;; p++) {
		size_t len = strcspn(p, ",");
		ssize_t i = find_column(t, p, len);

		if (i < 0 || v->count == COLUMNS_MAX) {
			if (ret_bad != NULL)
				*ret_bad = p;
			return -EINVAL;
		}
		v->columns[v->count++] = (size_t)i;
		p += len;
		if (*p == '\0')
			return 0;
	}
}

static void
measure(const struct table *t, const struct table_style *style, struct view *v)
{
	for (size_t i = 0; i < v->count; i++) {
		v->widths[i] = style->header ? table_text_width(t->columns[v->columns[i]].title) : 0;
		for (size_t row = 0; row < t->row_count; row++) {
			int width = table_text_width(cell_text(t, style, row, v->columns[i]));

			if (width > v->widths[i])
				v->widths[i] = width;
		}
	}
}

static int
full_width(const struct view *v)
{
	int total = -GAP;

	for (size_t i = 0; i < v->count; i++)
		total += v->widths[i] + GAP;
	return total;
}

/* As narrow as it can still be read with ease. */
static int
least_width(const struct table *t, const struct view *v)
{
	int total = -GAP;

	for (size_t i = 0; i < v->count; i++) {
		bool shrinks = t->columns[v->columns[i]].shrinks && v->widths[i] > SHRUNK_WIDTH_EASY;

		total += GAP + (shrinks ? SHRUNK_WIDTH_EASY : v->widths[i]);
	}
	return total;
}

static void
drop(struct view *v, size_t i)
{
	v->count--;
	memmove(&v->columns[i], &v->columns[i + 1], (v->count - i) * sizeof v->columns[0]);
	memmove(&v->widths[i], &v->widths[i + 1], (v->count - i) * sizeof v->widths[0]);
}

static void
put_below(const struct table *t, const struct table_style *style, struct view *v)
{
	if (style->width <= 0 || style->columns != NULL || full_width(v) <= style->width)
		return;
	for (size_t i = 0; i < v->count; i++) {
		if (t->columns[v->columns[i]].rank == COLUMN_BELOW) {
			v->below = (ssize_t)v->columns[i];
			drop(v, i);
			return;
		}
	}
}

/* What was not asked for by name goes, the highest rank first, until the rest fits. */
static void
leave_out(const struct table *t, const struct table_style *style, struct view *v)
{
	while (style->width > 0 && style->columns == NULL && least_width(t, v) > style->width) {
		size_t goes = 0;

		for (size_t i = 1; i < v->count; i++)
			if (t->columns[v->columns[i]].rank >= t->columns[v->columns[goes]].rank)
				goes = i;
		if (t->columns[v->columns[goes]].rank <= COLUMN_EXTRA)
			return;
		drop(v, goes);
	}
}

/* Take from the widest column that may shrink, one at a time, until it fits or nothing more can be taken. */
static void
shrink_to_fit(const struct table *t, const struct table_style *style, struct view *v)
{
	int total = full_width(v);

	while (style->width > 0 && total > style->width) {
		size_t widest = v->count;

		for (size_t i = 0; i < v->count; i++)
			if (t->columns[v->columns[i]].shrinks && v->widths[i] > SHRUNK_WIDTH_MIN &&
			    (widest == v->count || v->widths[i] > v->widths[widest]))
				widest = i;
		if (widest == v->count)
			return;
		v->widths[widest]--;
		total--;
	}
}

/* ---- output ---- */

const char *
mood_color(enum table_mood mood)
{
	switch (mood) {
	case MOOD_PLAIN: return "";
	case MOOD_GOOD: return "\033[32m";
	case MOOD_WARN: return "\033[33m";
	case MOOD_BAD: return "\033[31m";
	}
	return "";
}

static void
print_padding(int columns, FILE *out)
{
	for (; columns > 0; columns--)
		fputc(' ', out);
}

/* One cell of a padded table. The last one is not padded on its right. */
static void
print_cell(const struct table_style *style, const char *text, int width, bool right, bool last, enum table_mood mood,
    FILE *out)
{
	const char *color = style->color ? mood_color(mood) : "";
	const char *ellipsis = style->utf8 ? "\xe2\x80\xa6" : "~";
	int own = table_text_width(text);
	bool cut = own > width;
	size_t len = cut ? table_bytes_that_fit(text, width - 1) : strlen(text);

	own = cut ? width : own;
	print_padding(right ? width - own : 0, out);
	fprintf(out, "%s%.*s%s%s", color, (int)len, text, cut ? ellipsis : "", color[0] != '\0' ? "\033[0m" : "");
	print_padding(right || last ? 0 : width - own, out);
}

static const char *
row_text(const struct table *t, const struct table_style *style, ssize_t row, size_t column)
{
	return row < 0 ? t->columns[column].title : cell_text(t, style, (size_t)row, column);
}

/* Columns up to the last that is not empty: people's lines do not end in blanks. */
static size_t
filled_columns(const struct table *t, const struct table_style *style, const struct view *v, ssize_t row)
{
	size_t count = v->count;

	while (!style->tabs && count > 0 && row_text(t, style, row, v->columns[count - 1])[0] == '\0')
		count--;
	return count;
}

/* Row -1: the header. */
static void
print_row(const struct table *t, const struct table_style *style, const struct view *v, ssize_t row, FILE *out)
{
	size_t count = filled_columns(t, style, v, row);

	for (size_t i = 0; i < count; i++) {
		const struct table_column *column = &t->columns[v->columns[i]];
		const char *text = row_text(t, style, row, v->columns[i]);
		enum table_mood mood =
		    row < 0 ? MOOD_PLAIN : t->cells[(size_t)row * t->column_count + v->columns[i]].mood;

		if (i > 0)
			fputs(style->tabs ? "\t" : "  ", out);
		if (style->tabs)
			fputs(text, out);
		else
			print_cell(style, text, v->widths[i], column->right, i + 1 == count, mood, out);
	}
	fputc('\n', out);
}

static void
print_below(const struct table *t, const struct table_style *style, const struct view *v, size_t row, FILE *out)
{
	const char *text = v->below < 0 ? "" : cell_text(t, style, row, (size_t)v->below);
	char *line;

	if (text[0] == '\0' || strcmp(text, "-") == 0)
		return;
	if (asprintf(&line, "%*s%s", BELOW_INDENT, "", text) < 0)
		abort();
	wrap_print(out, line, style->width, BELOW_INDENT, "");
	free(line);
}

int
table_print(const struct table *t, const struct table_style *style, FILE *out, const char **ret_bad)
{
	struct view v;
	int r = choose_columns(t, style->columns, &v, ret_bad);

	if (r < 0)
		return r;
	if (!style->tabs) {
		measure(t, style, &v);
		put_below(t, style, &v);
		leave_out(t, style, &v);
		shrink_to_fit(t, style, &v);
	}
	if (style->header)
		print_row(t, style, &v, -1, out);
	for (size_t row = 0; row < t->row_count; row++) {
		print_row(t, style, &v, (ssize_t)row, out);
		print_below(t, style, &v, row, out);
	}
	return 0;
}

char *
table_names(const struct table *t)
{
	char *names;
	size_t len;
	FILE *out = must(open_memstream(&names, &len));

	for (size_t i = 0; i < t->column_count; i++)
		fprintf(out, "%s%s", i == 0 ? "" : ", ", t->columns[i].name);
	fclose(out);
	return must(names);
}
