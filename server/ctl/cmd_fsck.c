/* SPDX-License-Identifier: Apache-2.0 */
/* fsck: everything that must be true of a staging area while holdfastd is stopped. Its root and registry here, each
 * source by storage/fsck.h. */
#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/common/id.h"
#include "proto/common/status.h"
#include "proto/common/text.h"
#include "server/ctl/borrowed.h"
#include "server/ctl/offline.h"
#include "server/ctl/pick.h"
#include "storage/fsck.h"

enum { EXIT_CLEAN = 0, EXIT_FINDINGS = 1, EXIT_UNCHECKED = 2, RING_DEPTH = 64, CACHE_BYTES = 8 << 20, ROOT_FORMAT = 1 };

struct checking {
	struct ctl *ctl;
	const char *dir;
	struct disk *disk;
	struct run_cache *cache;
	const char *source; /* at hand; NULL: the root */
	json_t *sources, *findings;
	bool unchecked;
	char uuid[40];
};

/* ---- findings ---- */

static void
print_finding(const json_t *f)
{
	print_sentence(4, "%s  %s", pick_text(f, "code"), pick_text(f, "where"));
	print_sentence(4, "  %s", pick_text(f, "what"));
	print_sentence(9, "  means: %s", pick_text(f, "means"));
	print_sentence(9, "  do:    %s", pick_text(f, "do"));
}

/* What is damaged may be no text any more; a finding is not lost for that, and does nothing to a terminal. */
static json_t *
json_harmless(const char *text)
{
	char clean[1024];

	text_set(clean, sizeof clean, text);
	return json_string(clean);
}

static void
add_finding(
    struct checking *k, const char *code, const char *where, const char *what, const char *means, const char *cure)
{
	json_t *f = json_pack("{s:s?, s:s, s:o, s:o, s:s, s:s}", "sourceServerID", k->source, "code", code, "where",
	    json_harmless(where), "what", json_harmless(what), "means", means, "do", cure);

	if (!ctl_given(k->ctl, OPT_JSON))
		print_finding(f);
	json_array_append_new(k->findings, f);
}

static void
on_found(void *arg, enum fsck_code code, const char *where, const char *what)
{
	add_finding(arg, fsck_code_name(code), where, what, fsck_code_means(code), fsck_code_cure(code));
}

static void
say_unchecked(struct checking *k, const char *text)
{
	k->unchecked = true;
	(void)ctl_fail(EXIT_UNCHECKED, "%s", text);
}

/* ---- the root ---- */

static void
join(char *ret_path, size_t size, const char *dir, const char *name)
{
	snprintf(ret_path, size, "%s/%s", dir, name);
}

/* Sources' journals may be links into a directory on another disk, which has an IDENTITY too. */
static void
check_journal_root(struct checking *k, const char *text)
{
	const char *line = strstr(text, "\njournal ");
	char path[512], root[256], uuid[40] = "";
	FILE *f;

	if (line == NULL)
		return;
	snprintf(root, sizeof root, "%.*s", (int)strcspn(line + 9, "\n"), line + 9);
	join(path, sizeof path, root, "IDENTITY");
	f = fopen(path, "re");
	if (f == NULL || fscanf(f, "holdfast journal directory\nformat %*u\nuuid %36s", uuid) != 1 ||
	    strcmp(uuid, k->uuid) != 0)
		add_finding(k, "JOURNAL_ROOT", path,
		    f == NULL ? "it cannot be read" : "it is not that of this staging area",
		    "holdfastd does not start: the journals lie in there", "mount the disk with the journals");
	if (f != NULL)
		fclose(f);
}

static void
check_identity(struct checking *k)
{
	char path[512], text[512] = "";
	unsigned format = 0;
	FILE *f;

	join(path, sizeof path, k->dir, "IDENTITY");
	f = fopen(path, "re");
	if (f != NULL) {
		text[fread(text, 1, sizeof text - 1, f)] = '\0';
		fclose(f);
	}
	if (sscanf(text, "holdfast data directory\nformat %u\nuuid %36s", &format, k->uuid) != 2)
		add_finding(k, "IDENTITY", path, f == NULL ? "it cannot be read" : "it is not ours",
		    "holdfastd does not start: a directory without it may be anybody's",
		    "put it back from a backup; its UUID is the setting data_uuid of holdfast.db");
	else if (format > ROOT_FORMAT)
		say_unchecked(k, "IDENTITY was written by a newer holdfastd: use its holdfastctl");
	else
		check_journal_root(k, text);
}

static void
check_keys(struct checking *k)
{
	static const char *const names[] = {"pki/ca.pem", "pki/ca.key", "pki/server.pem", "pki/server.key"};
	char path[512];

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		join(path, sizeof path, k->dir, names[i]);
		if (access(path, F_OK) < 0)
			add_finding(k, "KEYS_MISSING", path, strerror(errno),
			    "agents trust this authority alone: without it none can be let in",
			    "put the whole folder pki back from a backup");
	}
}

/* ---- the registry ---- */

static void
check_source_folder(struct checking *k, const char *id)
{
	char path[512];

	snprintf(path, sizeof path, "%s/sources/%s", k->dir, id);
	if (access(path, F_OK) < 0)
		add_finding(k, "SOURCE_MISSING", path, "holdfast.db knows this source, and its folder is not there",
		    "its points in time are gone, and its agent is not served",
		    "put the folder back from a backup; else: holdfastctl source delete");
}

static void
say_registry(struct checking *k, const char *what)
{
	char path[512];

	join(path, sizeof path, k->dir, "holdfast.db");
	add_finding(k, "REGISTRY", path, what, "who may come in, and what happened, is in it",
	    "start holdfastd: it takes the copy, holdfast.db.bak; without one put it back from a backup");
}

static void
check_rows(struct checking *k, sqlite3 *db)
{
	sqlite3_stmt *row = NULL;
	int r = sqlite3_prepare_v2(db, "SELECT id FROM source", -1, &row, NULL);

	while (r == SQLITE_OK && sqlite3_step(row) == SQLITE_ROW)
		check_source_folder(k, (const char *)sqlite3_column_text(row, 0));
	if (r != SQLITE_OK)
		say_registry(k, sqlite3_errmsg(db));
	sqlite3_finalize(row);
	r = sqlite3_prepare_v2(db, "SELECT value FROM setting WHERE key = 'data_uuid'", -1, &row, NULL);
	if (r == SQLITE_OK && sqlite3_step(row) == SQLITE_ROW && k->uuid[0] != '\0' &&
	    strcmp((const char *)sqlite3_column_text(row, 0), k->uuid) != 0)
		say_registry(k, "it belongs to another data directory: its UUID is not that of IDENTITY");
	sqlite3_finalize(row);
}

static void
check_database(struct checking *k, sqlite3 *db)
{
	sqlite3_stmt *row = NULL;
	int r = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &row, NULL);
	const char *answer;

	r = r == SQLITE_OK ? sqlite3_step(row) : r;
	answer = r == SQLITE_ROW ? (const char *)sqlite3_column_text(row, 0) : sqlite3_errmsg(db);
	if (strcmp(answer, "ok") != 0)
		say_registry(k, answer);
	else
		check_rows(k, db);
	sqlite3_finalize(row);
}

static void
check_registry(struct checking *k)
{
	struct hf_error err;
	struct borrowed b;
	sqlite3 *db = NULL;
	int r = borrowed_take(k->dir, "holdfast.db", &b, &err);

	if (r == -ENOENT) {
		say_registry(k, "it is missing");
	} else if (r < 0) {
		say_unchecked(k, err.text);
	} else {
		if (sqlite3_open_v2(b.path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK)
			check_database(k, db);
		else
			say_registry(k, sqlite3_errmsg(db));
		(void)sqlite3_close(db);
		borrowed_drop(&b);
	}
}

/* ---- sources ---- */

static json_t *
describe(const char *id, const struct fsck_stats *t)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "sourceServerID", id, "volumes", (json_int_t)t->volumes,
	    "segments", (json_int_t)t->segments, "runs", (json_int_t)t->runs, "entries", (json_int_t)t->entries,
	    "points", (json_int_t)t->points, "blocks", (json_int_t)t->blocks);
}

/* 1: there is one; 0: none; negative: it cannot be copied. */
static int
borrow(struct checking *k, const char *dir, const char *name, struct borrowed *b)
{
	struct hf_error err;
	int r = borrowed_take(dir, name, b, &err);

	if (r == 0 || r == -ENOENT)
		return r == 0;
	say_unchecked(k, err.text);
	return r;
}

static void
check_folder(struct checking *k, const char *dir, const char *catalog, const char *bak)
{
	struct fsck_options o = {.dir = dir, .catalog = catalog, .catalog_bak = bak, .stop = ctl_interrupted};
	struct fsck_stats stats;
	struct hf_error err;

	o.data = ctl_given(k->ctl, OPT_DATA);
	if (fsck_source(k->disk, k->cache, &o, on_found, k, &stats, &err) < 0)
		say_unchecked(k, err.text);
	json_array_append_new(k->sources, describe(k->source, &stats));
}

static void
check_source(struct checking *k, const char *id)
{
	struct borrowed catalog, bak;
	char dir[512];
	int has, has_bak = 0;

	snprintf(dir, sizeof dir, "%s/sources/%s", k->dir, id);
	k->source = id;
	has = borrow(k, dir, "catalog.db", &catalog);
	if (has >= 0)
		has_bak = borrow(k, dir, "catalog.db.bak", &bak);
	if (has >= 0 && has_bak >= 0)
		check_folder(k, dir, has > 0 ? catalog.path : NULL, has_bak > 0 ? bak.path : NULL);
	if (has > 0)
		borrowed_drop(&catalog);
	if (has_bak > 0)
		borrowed_drop(&bak);
	k->source = NULL;
}

static void
check_sources(struct checking *k, const json_t *ids, const char *wanted)
{
	size_t checked = 0, i;
	json_t *id;

	json_array_foreach (ids, i, id) {
		const char *text = json_string_value(id);

		if (wanted != NULL && strncmp(text, wanted, strlen(wanted)) != 0)
			continue;
		if (!ctl_interrupted())
			check_source(k, text);
		checked++;
	}
	if (wanted != NULL && checked == 0)
		say_unchecked(k, "there is no such source in it");
}

/* ---- the command ---- */

static void
print_end(struct checking *k)
{
	size_t findings = json_array_size(k->findings), sources = json_array_size(k->sources);

	if (ctl_given(k->ctl, OPT_JSON)) {
		json_t *all = json_pack("{s:s, s:O, s:O, s:b}", "dataDir", k->dir, "sources", k->sources, "findings",
		    k->findings, "complete", !k->unchecked);

		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
		return;
	}
	print_sentence(4, "%zu source%s checked, %zu finding%s", sources, sources == 1 ? "" : "s", findings,
	    findings == 1 ? "" : "s");
}

static int
check_all(struct checking *k, const struct offline *o)
{
	struct hf_error err;

	if (disk_ring_create(RING_DEPTH, &k->disk, &err) < 0)
		return ctl_fail(EXIT_UNCHECKED, "%s", err.text);
	if (run_cache_create(CACHE_BYTES, &k->cache) < 0)
		return ctl_fail(EXIT_UNCHECKED, "out of memory");
	check_identity(k);
	check_keys(k);
	check_registry(k);
	check_sources(k, offline_sources(o), k->ctl->operand_count > 1 ? k->ctl->operands[1] : NULL);
	print_end(k);
	if (k->unchecked || ctl_interrupted())
		return ctl_interrupted() ? EXIT_INTERRUPTED : EXIT_UNCHECKED;
	return json_array_size(k->findings) > 0 ? EXIT_FINDINGS : EXIT_CLEAN;
}

int
run_fsck(struct ctl *ctl)
{
	struct checking k = {.ctl = ctl, .dir = ctl->operands[0], .sources = json_array(), .findings = json_array()};
	struct offline *o;
	int code = offline_open(k.dir, &o); /* holds LOCK */

	if (code == EXIT_DONE) {
		code = check_all(&k, o);
		offline_close(o);
	} else {
		code = EXIT_UNCHECKED;
	}
	run_cache_destroy(k.cache);
	disk_destroy(k.disk);
	json_decref(k.sources);
	json_decref(k.findings);
	return code;
}
