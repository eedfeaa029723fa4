/* SPDX-License-Identifier: Apache-2.0 */
#include "server/audit.h"

#include <inttypes.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/bytes.h"

_Static_assert((int)AUDIT_DIGEST_BYTES == SHA256_DIGEST_LENGTH, "a row is known by its SHA-256");

enum { ROWS_PER_PAGE = 500 };

/* ---- one row ---- */

/* What is digested: numbers as eight bytes, texts behind their length. */
struct image {
	unsigned char bytes[1024];
	size_t len;
};

_Static_assert(AUDIT_DIGEST_BYTES + 8 * 8 + 2 * NAME_BYTES + AUDIT_OBJECT_BYTES <= 1024, "any row fits");

static void
add_bytes(struct image *i, const void *bytes, size_t len)
{
	memcpy(i->bytes + i->len, bytes, len);
	i->len += len;
}

static void
add_number(struct image *i, uint64_t value)
{
	put_le64(i->bytes + i->len, value);
	i->len += 8;
}

static void
add_text(struct image *i, const char *text)
{
	add_number(i, strlen(text));
	add_bytes(i, text, strlen(text));
}

void
audit_digest(const unsigned char *before, const struct registry_audit *row, unsigned char *ret_digest)
{
	struct image i = {.len = 0};

	add_bytes(&i, before, AUDIT_DIGEST_BYTES);
	add_number(&i, row->number);
	add_number(&i, (uint64_t)row->time_ns);
	add_number(&i, row->uid);
	add_number(&i, (uint64_t)row->pid);
	add_number(&i, row->request);
	add_text(&i, row->verb);
	add_text(&i, row->object);
	add_text(&i, row->result);
	SHA256(i.bytes, i.len, ret_digest);
}

/* ---- all of them ---- */

struct walk {
	struct audit_report *report;
	uint64_t number; /* of the row before */
	unsigned char digest[AUDIT_DIGEST_BYTES];
	bool begun; /* a row of the chain was seen */
};

static void __attribute__((format(printf, 3, 4))) add_fault(struct walk *w, uint64_t number, const char *format, ...)
{
	struct audit_report *report = w->report;
	uint64_t i = report->fault_count++;
	va_list ap;

	if (i >= AUDIT_FAULTS_MAX)
		return;
	report->faults[i].number = number;
	va_start(ap, format);
	vsnprintf(report->faults[i].text, sizeof report->faults[i].text, format, ap);
	va_end(ap);
}

static void
check_gap(struct walk *w, uint64_t next)
{
	if (next == w->number + 2)
		add_fault(w, w->number + 1, "row %" PRIu64 " is missing", w->number + 1);
	else if (next != w->number + 1)
		add_fault(w, w->number + 1, "rows %" PRIu64 " to %" PRIu64 " are missing", w->number + 1, next - 1);
}

/* What follows a gap cannot be checked against what is gone; it begins the chain anew. */
static void
check_row(struct walk *w, const struct registry_audit *row)
{
	unsigned char digest[AUDIT_DIGEST_BYTES];
	bool follows = row->number == w->number + 1;

	check_gap(w, row->number);
	w->report->rows++;
	if (!row->chained && !w->begun) {
		w->report->unchained++;
	} else {
		audit_digest(w->digest, row, digest);
		if (follows && memcmp(digest, row->digest, sizeof digest) != 0)
			add_fault(w, row->number, "row %" PRIu64 " is not what was written, or not in its place",
			    row->number);
		w->begun = true;
	}
	w->number = row->number;
	memcpy(w->digest, row->digest, sizeof w->digest);
}

static int
walk_page(struct walk *w, struct registry *r, uint64_t after, struct hf_error *err)
{
	struct registry_audit *rows;
	size_t count;
	uint64_t newest = w->report->newest, last = after + ROWS_PER_PAGE < newest ? after + ROWS_PER_PAGE : newest;
	int status = registry_list_audit(r, after, last + 1, ROWS_PER_PAGE, &rows, &count, err);

	if (status < 0)
		return status;
	for (size_t i = 0; i < count; i++)
		check_row(w, &rows[i]);
	free(rows);
	return 0;
}

static void
check_end(struct walk *w)
{
	const struct audit_report *report = w->report;

	check_gap(w, report->newest + 1);
	if (w->number == report->newest && memcmp(w->digest, report->newest_digest, sizeof w->digest) != 0)
		add_fault(w, w->number, "row %" PRIu64 ", the newest, is not the one that was written", w->number);
}

/* The audit goes on meanwhile, but never without its head: what stands behind that is none of ours. */
static int
check_behind(struct walk *w, struct registry *r, struct hf_error *err)
{
	unsigned char digest[AUDIT_DIGEST_BYTES];
	struct registry_audit *rows;
	uint64_t last = 0, newest;
	size_t count;
	int status = registry_list_audit(r, w->report->newest, INT64_MAX, 1, &rows, &count, err);

	if (status < 0)
		return status;
	if (count > 0)
		last = rows[0].number;
	free(rows);
	status = registry_get_audit_head(r, &newest, digest, err);
	if (status == 0 && last > newest)
		add_fault(w, last, "row %" PRIu64 " stands behind the newest: it is not of this server", last);
	return status;
}

int
audit_check(struct registry *r, struct audit_report *ret_report, struct hf_error *err)
{
	struct walk w = {.report = ret_report};
	int status;

	memset(ret_report, 0, sizeof *ret_report);
	status = registry_get_audit_head(r, &ret_report->newest, ret_report->newest_digest, err);
	for (uint64_t after = 0; status == 0 && after < ret_report->newest; after += ROWS_PER_PAGE)
		status = walk_page(&w, r, after, err);
	if (status < 0)
		return status;
	check_end(&w);
	return check_behind(&w, r, err);
}
