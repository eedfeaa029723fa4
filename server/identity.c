/* SPDX-License-Identifier: Apache-2.0 */
/* The bundle: identity.json, what it is and the settings of each source; pki/...; holdfast.db, the registry's copy.
 *
 * Putting it into a directory, in this order: a new and empty store for every source, pki, holdfast.db last. A
 * directory that has sources or a pki but no registry is refused by data_dir_open(), so half of it is never served
 * from. The agents find less than they remember, and compare everything. */
#include "server/identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/common/file.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/data_dir.h"
#include "server/settings.h"
#include "storage/catalog.h"
#include "storage/store.h"

enum { IDENTITY_FORMAT = 1, PATH_BYTES_MAX = 512 };

/* ---- taking it ---- */

/* What its catalog has. */
static json_t *
store_json(const struct source_status *s)
{
	struct settings settings = {.policy = s->policy, .quota_bytes = s->quota_bytes, .when_full = s->when_full};
	json_t *object = settings_json(&settings, SETTINGS_OF_STORE);

	if (object != NULL)
		json_object_set_new(object, "frozenNs", json_integer(s->retention.frozen_ns));
	return object;
}

/* Its store has been open in this process. */
static bool
settings_known(const struct source_status *s)
{
	return s->retention.clock_ns != 0;
}

static int
list_sources(struct registry *registry, struct status_table *status, json_t *sources, unsigned *ret_unknown,
    struct hf_error *err)
{
	struct source_status *s = calloc(1, sizeof *s);
	struct registry_source *list = NULL;
	size_t n = 0;
	int r = s == NULL ? hf_error_set(err, -ENOMEM, "identity") : registry_list_sources(registry, &list, &n, err);

	for (size_t i = 0; i < n && r == 0; i++) {
		bool known = status_get(status, &list[i].id, s) && settings_known(s);

		if (list[i].phase == PHASE_DELETING)
			continue;
		*ret_unknown += !known;
		json_object_set_new(sources, list[i].id.text, known ? store_json(s) : json_null());
	}
	free(list);
	free(s);
	return r;
}

static int
take_facts(struct registry *registry, struct status_table *status, int64_t now_ns, struct bundle *bundle,
    unsigned *ret_unknown, struct hf_error *err)
{
	json_t *sources = json_object(), *root;
	char *text;
	int r = list_sources(registry, status, sources, ret_unknown, err);

	root = json_pack("{s:i, s:s, s:I, s:o}", "format", IDENTITY_FORMAT, "version", HOLDFAST_VERSION, "takenNs",
	    (json_int_t)now_ns, "sources", sources);
	text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
	if (r == 0)
		r = text == NULL ? -ENOMEM : bundle_add(bundle, "identity.json", text, strlen(text));
	free(text);
	json_decref(root);
	return r < 0 && err->code == 0 ? hf_error_set(err, r, "identity") : r;
}

static bool
is_pki_file(const char *name)
{
	size_t len = strlen(name);

	return len > 4 && len < 32 && (strcmp(name + len - 4, ".pem") == 0 || strcmp(name + len - 4, ".key") == 0);
}

static int
take_pki(const char *data_dir, struct bundle *bundle, struct hf_error *err)
{
	char path[PATH_BYTES_MAX + 300], name[BUNDLE_NAME_BYTES];
	struct dirent *e;
	DIR *dir;
	int r = 0;

	snprintf(path, sizeof path, "%s/pki", data_dir);
	dir = opendir(path);
	if (dir == NULL)
		return hf_error_set(err, -errno, "%s", path);
	while (r == 0 && (e = readdir(dir)) != NULL) {
		if (!is_pki_file(e->d_name))
			continue;
		snprintf(name, sizeof name, "pki/%.32s", e->d_name);
		snprintf(path, sizeof path, "%s/%s", data_dir, name);
		r = bundle_add_file(bundle, name, path, err);
	}
	closedir(dir);
	return r;
}

int
identity_take(const char *data_dir, struct registry *registry, struct status_table *status, int64_t now_ns,
    struct bundle *bundle, unsigned *ret_unknown, struct hf_error *err)
{
	char path[PATH_BYTES_MAX];
	int r;

	*ret_unknown = 0;
	err->code = 0;
	snprintf(path, sizeof path, "%s/holdfast.db.bak", data_dir);
	r = take_facts(registry, status, now_ns, bundle, ret_unknown, err);
	if (r == 0)
		r = take_pki(data_dir, bundle, err);
	if (r == 0)
		r = registry_write_copy(registry, err);
	return r < 0 ? r : bundle_add_file(bundle, "holdfast.db", path, err);
}

/* ---- remembering it ---- */

/* "TAKEN CA CA": when, and the fingerprints of the CAs that are in it. Of the sources it is those that were there then.
 */
#define BACKUP_NOTE "identity_backup"

enum { NOTE_BYTES = 32 + 2 * FINGERPRINT_TEXT_BYTES };

static void
format_note(struct pki *pki, int64_t taken_ns, char ret_text[NOTE_BYTES])
{
	struct pki_certificate ca, next;

	(void)pki_describe(pki, PKI_CA, &ca);
	(void)pki_describe(pki, PKI_NEXT_CA, &next); /* none: its fingerprint is "" */
	snprintf(ret_text, NOTE_BYTES, "%lld %s %s", (long long)taken_ns, ca.fingerprint, next.fingerprint);
}

int
identity_note_backup(struct registry *registry, struct pki *pki, int64_t now_ns, struct hf_error *err)
{
	char note[NOTE_BYTES];

	format_note(pki, now_ns, note);
	return registry_set_setting(registry, BACKUP_NOTE, note, err);
}

static void
look_at_ca(struct pki *pki, enum pki_role role, const char *note, struct identity_backup *backup)
{
	struct pki_certificate ca;
	int64_t made_ns;

	if (!pki_describe(pki, role, &ca) || strstr(note, ca.fingerprint) != NULL)
		return;
	made_ns = ca.not_before_ns + PKI_CLOCK_LEEWAY_NS;
	if (backup->unsaved_ns == 0 || made_ns < backup->unsaved_ns)
		backup->unsaved_ns = made_ns;
}

int
identity_look(struct registry *registry, struct pki *pki, struct identity_backup *ret_backup, struct hf_error *err)
{
	struct identity_backup backup = {0};
	char note[NOTE_BYTES] = "";
	size_t sources;
	int r = registry_get_setting(registry, BACKUP_NOTE, note, sizeof note);

	if (r < 0 && r != -ENOENT)
		return hf_error_set(err, r, "%s", BACKUP_NOTE);
	backup.taken_ns = atoll(note);
	r = registry_count_sources(registry, backup.taken_ns, &sources, &backup.unsaved_ns, err);
	if (r < 0)
		return r;
	if (sources > 0) {
		look_at_ca(pki, PKI_CA, note, &backup);
		look_at_ca(pki, PKI_NEXT_CA, note, &backup);
	}
	*ret_backup = backup;
	return 0;
}

/* ---- putting it back: files ---- */

static int
put_file(const char *path, const struct bundle_piece *piece, struct hf_error *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r;

	if (fd < 0)
		return hf_error_set(err, -errno, "%s", path);
	r = file_write(fd, piece->bytes, piece->len);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r < 0 ? hf_error_set(err, r, "%s", path) : 0;
}

static int
sync_dir(const char *path, struct hf_error *err)
{
	int r = file_sync_dir(path);

	return r < 0 ? hf_error_set(err, r, "sync %s", path) : 0;
}

/* ---- putting it back: keys and certificates ---- */

static int
fill_pki(const struct bundle *bundle, const char *dir, struct hf_error *err)
{
	struct bundle_piece piece;
	char path[PATH_BYTES_MAX];
	size_t at = 0;
	int r;

	while ((r = bundle_next(bundle, &at, &piece)) == 1) {
		if (strncmp(piece.name, "pki/", 4) != 0)
			continue;
		if (!is_pki_file(piece.name + 4) || strchr(piece.name + 4, '/') != NULL)
			return hf_error_say(err, -HF_ECORRUPT, "there is a file '%s' in it", piece.name);
		snprintf(path, sizeof path, "%s/%s", dir, piece.name + 4);
		r = put_file(path, &piece, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? hf_error_set(err, r, "the pieces") : sync_dir(dir, err);
}

static int
put_pki(const struct bundle *bundle, const char *data_dir, int64_t now_ns, struct identity_facts *facts,
    char ret_note[NOTE_BYTES], struct hf_error *err)
{
	char dir[PATH_BYTES_MAX];
	struct pki *pki;
	int r;

	snprintf(dir, sizeof dir, "%s/pki", data_dir);
	if (mkdir(dir, 0700) < 0)
		return hf_error_set(err, -errno, "%s", dir);
	r = fill_pki(bundle, dir, err);
	if (r == 0)
		r = pki_open(dir, now_ns, &pki, err);
	if (r < 0)
		return r;
	pki_ca_fingerprint(pki, facts->ca_fingerprint);
	format_note(pki, facts->taken_ns, ret_note);
	pki_close(pki);
	return 0;
}

/* ---- putting it back: sources ---- */

static int
set_up_catalog(const char *dir, const struct settings *settings, int64_t frozen_ns, struct hf_error *err)
{
	char path[PATH_BYTES_MAX];
	struct catalog *c;
	int r;

	snprintf(path, sizeof path, "%s/catalog.db", dir);
	r = catalog_open(path, NULL, false, NULL, &c, err);
	if (r < 0)
		return r;
	r = catalog_set_policy(c, &settings->policy, err);
	if (r == 0)
		r = catalog_set_space(c, settings->quota_bytes, settings->when_full, err);
	if (r == 0)
		r = catalog_set_frozen(c, frozen_ns, err);
	catalog_close(c);
	return r;
}

static int
put_settings(const char *dir, json_t *object, struct hf_error *err)
{
	int64_t frozen_ns = json_integer_value(json_object_get(object, "frozenNs"));
	struct settings settings;
	int r;

	settings_default(&settings);
	json_object_del(object, "frozenNs");
	r = settings_read(object, SETTINGS_OF_STORE, &settings, err);
	return r == 0 ? set_up_catalog(dir, &settings, frozen_ns, err) : r;
}

static int
put_source(struct disk *d, const char *data_dir, const char *text, json_t *settings, struct hf_error *err)
{
	char dir[PATH_BYTES_MAX - 16];
	struct store_config config = {.dir = dir};
	struct id source;
	int r;

	if (!id_parse("s", text, &source))
		return hf_error_say(err, -HF_ECORRUPT, "'%.40s' is not the id of a source", text);
	snprintf(dir, sizeof dir, "%s/sources/%s", data_dir, text);
	r = store_create(d, &config, &source, err);
	return r < 0 || json_is_null(settings) ? r : put_settings(dir, settings, err);
}

static int
put_sources(json_t *sources, const char *data_dir, struct hf_error *err)
{
	char path[PATH_BYTES_MAX];
	const char *source;
	json_t *settings;
	struct disk *d;
	int r;

	snprintf(path, sizeof path, "%s/sources", data_dir);
	if (mkdir(path, 0700) < 0)
		return hf_error_set(err, -errno, "%s", path);
	r = disk_ring_create(4, &d, err);
	if (r < 0)
		return r;
	json_object_foreach(sources, source, settings)
	{
		if (r == 0)
			r = put_source(d, data_dir, source, settings, err);
	}
	disk_destroy(d);
	return r < 0 ? r : sync_dir(path, err);
}

/* ---- putting it back: the registry ---- */

/* It is of this directory from now on, and says how much older than the agents it is, and that it is backed up. */
static int
fit_registry(const char *path, const struct data_dir *dir, int64_t taken_ns, int64_t now_ns, const char *note,
    struct hf_error *err)
{
	char from[32], until[32];
	struct registry *registry;
	int r = registry_open(path, false, &registry, err);

	if (r < 0)
		return r;
	snprintf(from, sizeof from, "%lld", (long long)taken_ns);
	snprintf(until, sizeof until, "%lld", (long long)now_ns);
	r = registry_set_setting(registry, "data_uuid", data_dir_uuid(dir), err);
	if (r == 0)
		r = registry_set_setting(registry, "identity_taken_ns", from, err);
	if (r == 0)
		r = registry_set_setting(registry, "identity_put_ns", until, err);
	if (r == 0)
		r = registry_set_setting(registry, BACKUP_NOTE, note, err);
	registry_close(registry);
	return r;
}

static int
put_registry(const struct bundle *bundle, const struct data_dir *dir, int64_t taken_ns, int64_t now_ns,
    const char *note, struct hf_error *err)
{
	char aside[PATH_BYTES_MAX], path[PATH_BYTES_MAX];
	struct bundle_piece piece;
	int r = bundle_find(bundle, "holdfast.db", &piece);

	if (r < 0)
		return hf_error_say(err, -HF_ECORRUPT, "there is no registry in it");
	snprintf(aside, sizeof aside, "%s/holdfast.db.new", data_dir_path(dir));
	snprintf(path, sizeof path, "%s/holdfast.db", data_dir_path(dir));
	r = put_file(aside, &piece, err);
	if (r == 0)
		r = fit_registry(aside, dir, taken_ns, now_ns, note, err);
	if (r == 0 && rename(aside, path) < 0)
		r = hf_error_set(err, -errno, "%s", path);
	return r < 0 ? r : sync_dir(data_dir_path(dir), err);
}

int
identity_recover_certificate(struct registry *registry, const struct pki_peer *peer, struct hf_error *err)
{
	int64_t issued_ns = peer->not_before_ns + PKI_CLOCK_LEEWAY_NS;
	struct registry_certificate c = {
	    .source = peer->source, .not_before_ns = peer->not_before_ns, .not_after_ns = peer->not_after_ns};
	struct registry_source source;
	char from[32], until[32];

	if (registry_get_setting(registry, "identity_taken_ns", from, sizeof from) < 0 ||
	    registry_get_setting(registry, "identity_put_ns", until, sizeof until) < 0 ||
	    issued_ns < atoll(from) - NS_PER_SECOND || issued_ns > atoll(until) ||
	    registry_get_source(registry, &peer->source, &source, err) < 0)
		return hf_error_say(err, -ENOENT, "the certificate is not one this server has on record");
	memcpy(c.fingerprint, peer->fingerprint, sizeof c.fingerprint);
	memcpy(c.serial, peer->serial, sizeof c.serial);
	memcpy(c.issuer, peer->issuer, sizeof c.issuer);
	return registry_put_certificate(registry, &c, err);
}

/* ---- putting it back ---- */

static int
read_facts(const struct bundle *bundle, json_t **ret_root, struct hf_error *err)
{
	struct bundle_piece piece;
	json_error_t problem;
	json_t *root = NULL, *sources;
	json_int_t taken;
	int format;

	if (bundle_find(bundle, "identity.json", &piece) == 0)
		root = json_loadb((const char *)piece.bytes, piece.len, JSON_REJECT_DUPLICATES, &problem);
	if (root == NULL || json_unpack(root, "{s:i}", "format", &format) < 0) {
		json_decref(root);
		return hf_error_say(err, -HF_ECORRUPT, "it is not the identity of a holdfastd");
	}
	if (format <= IDENTITY_FORMAT && json_unpack(root, "{s:I, s:o}", "takenNs", &taken, "sources", &sources) == 0 &&
	    json_is_object(sources)) {
		*ret_root = root;
		return 0;
	}
	json_decref(root);
	return format > IDENTITY_FORMAT
		   ? hf_error_say(err, -HF_EFORMAT, "it was made by a newer version (format %d)", format)
		   : hf_error_say(err, -HF_ECORRUPT, "what it says of itself cannot be read");
}

/* data_dir_open() has taken an empty directory, or one of ours that was never served from. */
static int
check_empty(const struct data_dir *dir, struct hf_error *err)
{
	static const char *const names[] = {
	    "pki", "pki.new", "sources", "holdfast.db", "holdfast.db.bak", "holdfast.db.new"};
	char path[PATH_BYTES_MAX];

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (data_dir_join(dir, names[i], path, sizeof path) && access(path, F_OK) < 0 && errno == ENOENT)
			continue;
		return hf_error_say(err, -ENOTEMPTY,
		    "%s is not empty: it has '%s'. An identity goes into an empty directory only; if what is there can "
		    "go, "
		    "remove it by hand",
		    data_dir_path(dir), names[i]);
	}
	return 0;
}

static int
put(const struct bundle *bundle, const struct data_dir *dir, json_t *root, int64_t now_ns, struct identity_facts *facts,
    struct hf_error *err)
{
	json_t *sources = json_object_get(root, "sources");
	const char *path = data_dir_path(dir);
	char note[NOTE_BYTES];
	int r = check_empty(dir, err);

	facts->taken_ns = json_integer_value(json_object_get(root, "takenNs"));
	facts->source_count = json_object_size(sources);
	snprintf(facts->version, sizeof facts->version, "%.31s", json_string_value(json_object_get(root, "version")));
	if (r == 0)
		r = put_sources(sources, path, err);
	if (r == 0)
		r = put_pki(bundle, path, now_ns, facts, note, err);
	return r < 0 ? r : put_registry(bundle, dir, facts->taken_ns, now_ns, note, err);
}

int
identity_put(const struct bundle *bundle, const char *data_dir, int64_t now_ns, struct identity_facts *ret_facts,
    struct hf_error *err)
{
	struct identity_facts facts = {0};
	struct data_dir *dir;
	json_t *root = NULL;
	int r = read_facts(bundle, &root, err);

	if (r < 0)
		return r;
	r = data_dir_open(data_dir, false, "", &dir, err);
	if (r == 0) {
		r = put(bundle, dir, root, now_ns, &facts, err);
		data_dir_close(dir);
	}
	json_decref(root);
	if (r == 0)
		*ret_facts = facts;
	return r;
}
