/* SPDX-License-Identifier: Apache-2.0 */
/* identity ...: what the server is to its agents, in a file of its own, against the day it is lost. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "proto/common/file.h"
#include "proto/common/status.h"
#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/passphrase.h"
#include "server/ctl/pick.h"
#include "server/ctl/seal.h"
#include "server/identity.h"

enum { FILE_BYTES_MAX = SEAL_BYTES_MAX + 4096 };

static int
fail(const char *path, const struct hf_error *err)
{
	int code = err->code == -EACCES || err->code == -EPERM ? EXIT_NOT_ALLOWED
		   : err->code == -HF_ECORRUPT                 ? EXIT_DAMAGED
							       : EXIT_FAILED;

	return ctl_fail(code, "%s: %s", path, err->text);
}

/* ---- backup ---- */

struct taking {
	struct bundle bundle;
	unsigned unknown;
};

static int
on_begin(void *arg, struct client *c)
{
	struct taking *t = arg;
	const char *unknown = client_header(c, "Holdfast-Unknown-Settings");

	t->unknown = unknown != NULL ? (unsigned)strtoul(unknown, NULL, 10) : 0;
	return EXIT_DONE;
}

/* As it comes: not in pieces of ours. */
static int
on_bytes(void *arg, const unsigned char *bytes, size_t len)
{
	struct taking *t = arg;

	if (bundle_append(&t->bundle, bytes, len) < 0)
		return ctl_fail(EXIT_FAILED, "the identity has more than %d MiB", BUNDLE_BYTES_MAX >> 20);
	return EXIT_DONE;
}

/* Cut off it has no last piece, or half of one. */
static int
check_whole(const struct bundle *b)
{
	struct bundle_piece piece;

	if (bundle_find(b, "holdfast.db", &piece) == 0)
		return EXIT_DONE;
	return ctl_fail(EXIT_FAILED, "the answer of holdfastd was cut off; nothing was written");
}

static int
seal_into(const char *path, const struct bundle *b, const char *passphrase)
{
	unsigned char *sealed;
	struct hf_error err;
	size_t len;
	int r;

	if (seal(b->bytes, b->len, passphrase, &sealed, &len, &err) < 0)
		return fail(path, &err);
	r = file_replace(path, 0600, sealed, len, &err);
	free(sealed);
	return r < 0 ? ctl_fail(EXIT_FAILED, "%s", err.text) : EXIT_DONE;
}

static int
take(struct ctl *ctl, struct taking *t)
{
	const struct client_stream stream = {.admin = true, .begin = on_begin, .bytes = on_bytes, .arg = t};
	int code = client_stream(ctl->client, &stream, "/v1/identity");

	return code == EXIT_DONE ? check_whole(&t->bundle) : code;
}

static int
say_taken(const struct ctl *ctl, const char *path, const struct taking *t)
{
	char size[UNITS_TEXT_BYTES];

	if (ctl_given(ctl, OPT_JSON))
		return print_json(json_pack("{s:s, s:I, s:I}", "file", path, "bytes", (json_int_t)t->bundle.len,
		    "sourcesWithoutSettings", (json_int_t)t->unknown));
	print_sentence(4, "%s: %s, encrypted", path, size_format(t->bundle.len, size));
	if (t->unknown > 0)
		ctl_note(
		    "of %u source%s the policy could not be read and is not in it (holdfastctl source list shows why)",
		    t->unknown, t->unknown == 1 ? "" : "s");
	ctl_note("keep it and the passphrase apart, and neither on this machine");
	return EXIT_DONE;
}

int
run_identity_backup(struct ctl *ctl)
{
	const char *path = ctl->operands[0];
	char passphrase[PASSPHRASE_BYTES] = "";
	struct taking t = {0};
	int code = EXIT_DONE;

	if (access(path, F_OK) == 0 && !ctl_given(ctl, OPT_FORCE))
		return ctl_fail(EXIT_FAILED, "%s exists; --force replaces it", path);
	code = passphrase_get(ctl, true, passphrase);
	if (code == EXIT_DONE)
		code = take(ctl, &t);
	if (code == EXIT_DONE)
		code = seal_into(path, &t.bundle, passphrase);
	OPENSSL_cleanse(passphrase, sizeof passphrase);
	if (code == EXIT_DONE)
		code = say_taken(ctl, path, &t);
	bundle_fini(&t.bundle);
	return code;
}

/* ---- restore ---- */

static int
read_file(const char *path, struct bundle *ret_sealed)
{
	unsigned char buf[65536];
	FILE *f = fopen(path, "re");
	int code = EXIT_DONE;
	size_t n;

	if (f == NULL)
		return ctl_fail(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_FAILED, "%s: %m", path);
	while (code == EXIT_DONE && (n = fread(buf, 1, sizeof buf, f)) > 0)
		if (bundle_append(ret_sealed, buf, n) < 0)
			code = ctl_fail(EXIT_DAMAGED, "%s: it is larger than any backup", path);
	if (ferror(f))
		code = ctl_fail(EXIT_FAILED, "%s: %m", path);
	fclose(f);
	return code;
}

static int
open_backup(struct ctl *ctl, const char *path, struct bundle *ret_bundle)
{
	char passphrase[PASSPHRASE_BYTES] = "";
	struct bundle sealed = {0};
	struct hf_error err;
	int code = read_file(path, &sealed);

	if (code == EXIT_DONE)
		code = passphrase_get(ctl, false, passphrase);
	if (code == EXIT_DONE &&
	    unseal(sealed.bytes, sealed.len, passphrase, &ret_bundle->bytes, &ret_bundle->len, &err) < 0)
		code = fail(path, &err);
	OPENSSL_cleanse(passphrase, sizeof passphrase);
	bundle_fini(&sealed);
	return code;
}

/* What root makes shall belong to whoever the directory belongs to: the daemon's user, most likely. */
static int
become_owner(const char *dir)
{
	struct stat st;

	if (stat(dir, &st) < 0)
		return errno == ENOENT
			   ? ctl_fail(EXIT_NOT_FOUND,
				 "%s does not exist: make it, for the user that holdfastd runs as, with mode 0700", dir)
			   : ctl_fail(EXIT_FAILED, "%s: %m", dir);
	if (geteuid() != 0 || st.st_uid == 0)
		return EXIT_DONE;
	if (setegid(st.st_gid) < 0 || seteuid(st.st_uid) < 0)
		return ctl_fail(EXIT_FAILED, "cannot become the owner of %s: %m", dir);
	return EXIT_DONE;
}

static int
say_restored(const struct ctl *ctl, const char *dir, const struct identity_facts *f)
{
	char taken[UNITS_TEXT_BYTES];

	time_format(f->taken_ns, taken);
	if (ctl_given(ctl, OPT_JSON))
		return print_json(
		    json_pack("{s:s, s:s, s:s, s:I, s:s}", "dataDir", dir, "caFingerprint", f->ca_fingerprint,
			"takenDateTime", taken, "sources", (json_int_t)f->source_count, "version", f->version));
	print_sentence(4, "%s: %zu source%s as of %s, CA SHA-256 %s", dir, f->source_count,
	    f->source_count == 1 ? "" : "s", taken, f->ca_fingerprint);
	ctl_note("start holdfastd on it, under the address its agents know; they connect by themselves, and compare "
		 "everything");
	return EXIT_DONE;
}

int
run_identity_restore(struct ctl *ctl)
{
	const char *path = ctl->operands[0], *dir = ctl->values[OPT_DATA_DIR];
	struct identity_facts facts;
	struct bundle bundle = {0};
	struct hf_error err;
	int code;

	if (dir == NULL)
		return ctl_fail(EXIT_USAGE, "into which directory? --data-dir is wanted");
	code = open_backup(ctl, path, &bundle);
	if (code == EXIT_DONE)
		code = become_owner(dir);
	if (code == EXIT_DONE && identity_put(&bundle, dir, clock_real_ns(), &facts, &err) < 0)
		code = fail(dir, &err);
	bundle.room = bundle.len;
	bundle_fini(&bundle);
	return code == EXIT_DONE ? say_restored(ctl, dir, &facts) : code;
}
