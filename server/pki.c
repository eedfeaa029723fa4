/* SPDX-License-Identifier: Apache-2.0 */
/* On disk, in <data>/pki/: ca.pem, ca.key, server.pem, server.key; during a change of CA ca-next.key and ca-next.pem,
 * in this order: without the certificate the key counts for nothing.
 *
 * The four are first written into <data>/pki.new/, synced, and the directory is renamed: either
 * there is a whole pki or none. When a CA retires, pki.new is filled with the next one's and changes places with pki,
 * in one step. A pki.new left by a crash is removed at the next start. Else only server.pem ever changes, one rename at
 * a time; a server key that does not fit its certificate is replaced with it, key first, so that a crash between the
 * two is the same case again. The CA's pair is never replaced: half of it missing is for a person to mend, from a
 * backup.
 *
 * Certificates: the CA may sign leaves only (pathlen 0); the server's says serverAuth and an
 * agent's clientAuth, and each side demands that of the other, so that no agent can pose as the
 * server. */
#include "server/pki_impl.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include "proto/common/file.h"
#include "proto/common/log.h"
#include "proto/common/status.h"
#include "proto/common/units.h"

#define DAY_NS         (86400 * NS_PER_SECOND)
#define CA_LIFE_NS     (3650 * DAY_NS)
#define SERVER_LIFE_NS (90 * DAY_NS)

/* ---- making certificates ---- */

static int
make_ca(int64_t now_ns, struct key_pair *ret_ca, struct hf_error *err)
{
	struct key_pair ca = {.key = EVP_EC_gen("P-256")};
	char name[64];
	unsigned char random[4];

	/* Two CAs of one name would be told apart by nothing a person can read. */
	random_bytes(random, sizeof random);
	snprintf(name, sizeof name, "Holdfast CA %02x%02x%02x%02x", random[0], random[1], random[2], random[3]);
	if (ca.key != NULL)
		ca.certificate = certificate_make(&(struct certificate_recipe){
		    .common_name = name,
		    .key = ca.key,
		    .not_before_ns = now_ns - PKI_CLOCK_LEEWAY_NS,
		    .not_after_ns = now_ns + CA_LIFE_NS,
		    .constraints = "critical,CA:TRUE,pathlen:0",
		    .usage = "critical,keyCertSign,cRLSign",
		});
	if (ca.certificate == NULL) {
		key_pair_fini(&ca);
		return tls_fail(err, -EIO, "make the certificate authority");
	}
	*ret_ca = ca;
	return 0;
}

/* Gives a certificate for the server's key; NULL: OpenSSL says why. */
static X509 *
certify_server(const struct key_pair *ca, EVP_PKEY *key, int64_t now_ns)
{
	return certificate_make(&(struct certificate_recipe){
	    .common_name = "holdfastd",
	    .key = key,
	    .issuer = ca,
	    .not_before_ns = now_ns - PKI_CLOCK_LEEWAY_NS,
	    .not_after_ns = now_ns + SERVER_LIFE_NS,
	    .constraints = "critical,CA:FALSE",
	    .usage = "critical,digitalSignature",
	    .extended_usage = "serverAuth",
	});
}

static int
make_server(const struct key_pair *ca, int64_t now_ns, struct key_pair *ret_server, struct hf_error *err)
{
	struct key_pair server = {.key = EVP_EC_gen("P-256")};

	if (server.key != NULL)
		server.certificate = certify_server(ca, server.key, now_ns);
	if (server.certificate == NULL) {
		key_pair_fini(&server);
		return tls_fail(err, -EIO, "make the server's key and certificate");
	}
	*ret_server = server;
	return 0;
}

/* ---- files ---- */

static int
save_server(const char *dir, const struct key_pair *server, struct hf_error *err)
{
	int r = pem_save_key(dir, "server.key", server->key, err);

	return r < 0 ? r : pem_save_certificate(dir, "server.pem", server->certificate, err);
}

/* ---- opening ---- */

static void
remove_left_over(const char *dir)
{
	static const char *const names[] = {"ca.pem", "ca.key", "server.pem", "server.key", "ca-next.pem",
	    "ca-next.key", "ca.pem.new", "ca.key.new", "server.pem.new", "server.key.new", "ca-next.pem.new",
	    "ca-next.key.new"};
	char path[PEM_PATH_BYTES];

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		(void)unlink(
		    pem_path(dir, names[i], path)); /* what cannot be removed shows when the directory is made */
	(void)rmdir(dir);
}

/* An empty directory beside ours, with these in it. */
static int
make_new_dir(const char *new_dir, const struct key_pair *ca, const struct key_pair *server, struct hf_error *err)
{
	int r;

	remove_left_over(new_dir);
	if (mkdir(new_dir, 0700) < 0)
		return hf_error_set(err, -errno, "create %s", new_dir);
	r = pem_save_key(new_dir, "ca.key", ca->key, err);
	if (r == 0)
		r = pem_save_certificate(new_dir, "ca.pem", ca->certificate, err);
	if (r == 0)
		r = save_server(new_dir, server, err);
	return r;
}

static int
sync_parent(const char *dir, struct hf_error *err)
{
	char parent[PEM_PATH_BYTES + 4];
	int r;

	snprintf(parent, sizeof parent, "%s/..", dir);
	r = file_sync_dir(parent);
	return r < 0 ? hf_error_set(err, r, "sync %s", parent) : 0;
}

static int
create(struct pki *p, int64_t now_ns, struct hf_error *err)
{
	char new_dir[PEM_PATH_BYTES + 4];
	int r;

	snprintf(new_dir, sizeof new_dir, "%s.new", p->dir);
	r = make_ca(now_ns, &p->ca, err);
	if (r == 0)
		r = make_server(&p->ca, now_ns, &p->server, err);
	if (r == 0)
		r = make_new_dir(new_dir, &p->ca, &p->server, err);
	if (r == 0 && rename(new_dir, p->dir) < 0) /* replaces an empty directory */
		r = hf_error_set(err, -errno, "rename %s", new_dir);
	return r < 0 ? r : sync_parent(p->dir, err);
}

/* The next CA is a whole one, or none. */
static int
check_next(struct pki *p, struct hf_error *err)
{
	if (p->next.certificate == NULL) {
		key_pair_fini(&p->next);
		return 0;
	}
	if (p->next.key != NULL && X509_check_private_key(p->next.certificate, p->next.key) == 1)
		return 0;
	ERR_clear_error();
	return hf_error_say(err, -HF_ECORRUPT,
	    "%s: ca-next.key is missing, or does not belong to ca-next.pem: restore both from a backup", p->dir);
}

static int
check_ca(struct pki *p, int64_t now_ns, struct hf_error *err)
{
	if (p->ca.certificate == NULL || p->ca.key == NULL)
		return hf_error_say(err, -HF_ECORRUPT,
		    "%s is half made: %s is missing. Every agent trusts this CA alone, so it is "
		    "not made anew: restore the file from a backup",
		    p->dir, p->ca.certificate == NULL ? "ca.pem" : "ca.key");
	if (X509_check_private_key(p->ca.certificate, p->ca.key) != 1)
		return tls_fail(err, -HF_ECORRUPT, "ca.key does not belong to ca.pem; restore both from a backup");
	if (X509_check_ca(p->ca.certificate) != 1)
		return hf_error_say(err, -HF_ECORRUPT, "%s/ca.pem is not the certificate of a CA", p->dir);
	if (certificate_time_ns(X509_get0_notAfter(p->ca.certificate)) <= now_ns)
		return hf_error_set(err, -HF_EEXPIRED, "%s/ca.pem", p->dir);
	return check_next(p, err);
}

static int
load(struct pki *p, struct hf_error *err)
{
	int r = pem_load_certificate(p->dir, "ca.pem", &p->ca.certificate, err);

	if (r == 0)
		r = pem_load_key(p->dir, "ca.key", &p->ca.key, err);
	if (r == 0)
		r = pem_load_certificate(p->dir, "server.pem", &p->server.certificate, err);
	if (r == 0)
		r = pem_load_key(p->dir, "server.key", &p->server.key, err);
	if (r == 0)
		r = pem_load_certificate(p->dir, "ca-next.pem", &p->next.certificate, err);
	if (r == 0)
		r = pem_load_key(p->dir, "ca-next.key", &p->next.key, err);
	return r;
}

/* Is the server's pair one that agents will take? When it must be renewed is another question. */
static bool
server_fits(const struct pki *p)
{
	EVP_PKEY *ca_key = X509_get0_pubkey(p->ca.certificate);
	bool fits = p->server.certificate != NULL && p->server.key != NULL &&
		    X509_check_private_key(p->server.certificate, p->server.key) == 1 &&
		    X509_verify(p->server.certificate, ca_key) == 1 &&
		    certificate_has_purpose(p->server.certificate, XKU_SSL_SERVER);

	ERR_clear_error();
	return fits;
}

static int
mend_server(struct pki *p, int64_t now_ns, struct hf_error *err)
{
	int r;

	if (server_fits(p))
		return 0;
	log_notice("server_key_made",
	    "dir=%s msg=\"the server's key or certificate was missing or did not fit; made anew\"", p->dir);
	key_pair_fini(&p->server);
	r = make_server(&p->ca, now_ns, &p->server, err);
	return r < 0 ? r : save_server(p->dir, &p->server, err);
}

/* 1 if there is a pki with anything in it, 0 if not; or negative. */
static int
dir_in_use(const char *dir, struct hf_error *err)
{
	static const char *const names[] = {"ca.pem", "ca.key", "server.pem", "server.key"};
	char path[PEM_PATH_BYTES];
	struct stat st;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (lstat(pem_path(dir, names[i], path), &st) == 0)
			return 1;
		if (errno != ENOENT)
			return hf_error_set(err, -errno, "%s", path);
	}
	return 0;
}

static int
load_or_create(struct pki *p, int64_t now_ns, struct hf_error *err)
{
	int r = dir_in_use(p->dir, err);

	if (r < 0)
		return r;
	if (r == 0)
		return create(p, now_ns, err);
	r = load(p, err);
	if (r == 0)
		r = check_ca(p, now_ns, err);
	if (r == 0)
		r = mend_server(p, now_ns, err);
	return r < 0 ? r : pki_renew(p, false, now_ns, err);
}

int
pki_open(const char *dir, int64_t now_ns, struct pki **ret_pki, struct hf_error *err)
{
	char new_dir[PEM_PATH_BYTES + 4];
	struct pki *p;
	int r;

	if (strlen(dir) + sizeof "/server.key.new" > PEM_PATH_BYTES)
		return hf_error_set(err, -ENAMETOOLONG, "%s", dir);
	p = calloc(1, sizeof *p);
	if (p == NULL)
		return hf_error_set(err, -ENOMEM, "%s", dir);
	strcpy(p->dir, dir);
	pthread_mutex_init(&p->mutex, NULL);
	snprintf(new_dir, sizeof new_dir, "%s.new", dir);
	remove_left_over(new_dir);
	r = load_or_create(p, now_ns, err);
	if (r < 0) {
		pki_close(p);
		return r;
	}
	*ret_pki = p;
	return 0;
}

void
pki_close(struct pki *p)
{
	if (p == NULL)
		return;
	key_pair_fini(&p->ca);
	key_pair_fini(&p->next);
	key_pair_fini(&p->server);
	pthread_mutex_destroy(&p->mutex);
	free(p);
}

const char *
pki_ca_fingerprint(struct pki *p, char *buf)
{
	HOLD(p);

	certificate_format_fingerprint(p->ca.certificate, buf);
	return buf;
}

static void
encode(X509 *ca, struct message_blob *ret_certificate)
{
	bool fits = certificate_encode(ca, ret_certificate);

	assert(fits); /* we made it, of a fixed form */
}

void
pki_get_ca(struct pki *p, struct message_blob *ret_certificate)
{
	HOLD(p);

	encode(p->ca.certificate, ret_certificate);
}

void
pki_get_next_ca(struct pki *p, struct message_blob *ret_certificate)
{
	HOLD(p);

	ret_certificate->len = 0;
	if (p->next.certificate != NULL)
		encode(p->next.certificate, ret_certificate);
}

unsigned
pki_generation(const struct pki *p)
{
	return atomic_load(&p->generation);
}

bool
pki_outdates(struct pki *p, const char *issuer_fingerprint)
{
	char next[FINGERPRINT_TEXT_BYTES];
	HOLD(p);

	if (p->next.certificate == NULL)
		return false;
	certificate_format_fingerprint(p->next.certificate, next);
	return strcmp(next, issuer_fingerprint) != 0;
}

static void
describe(X509 *x, const X509 *issuer, struct pki_certificate *ret_certificate)
{
	struct pki_certificate c = {
	    .not_before_ns = certificate_time_ns(X509_get0_notBefore(x)),
	    .not_after_ns = certificate_time_ns(X509_get0_notAfter(x)),
	};

	(void)X509_NAME_get_text_by_NID(
	    X509_get_subject_name(x), NID_commonName, c.subject, sizeof c.subject); /* a name for people */
	certificate_serial(x, c.serial, sizeof c.serial);
	certificate_format_fingerprint(x, c.fingerprint);
	certificate_format_fingerprint(issuer, c.issuer);
	*ret_certificate = c;
}

bool
pki_describe(struct pki *p, enum pki_role role, struct pki_certificate *ret_certificate)
{
	const struct key_pair *const pairs[PKI_ROLES] = {
	    [PKI_CA] = &p->ca, [PKI_NEXT_CA] = &p->next, [PKI_SERVER] = &p->server};
	X509 *x;
	HOLD(p);

	memset(ret_certificate, 0, sizeof *ret_certificate);
	x = pairs[role]->certificate;
	if (x != NULL)
		describe(x, role == PKI_NEXT_CA ? x : p->ca.certificate, ret_certificate);
	return x != NULL;
}

static bool
server_due(const struct pki *p, int64_t now_ns)
{
	int64_t begin = certificate_time_ns(X509_get0_notBefore(p->server.certificate)),
		end = certificate_time_ns(X509_get0_notAfter(p->server.certificate));

	return now_ns >= end - (end - begin) / 3;
}

static int
renew(struct pki *p, bool wanted, int64_t now_ns, struct hf_error *err)
{
	X509 *certificate;
	int r;

	if (!wanted && !server_due(p, now_ns))
		return 0;
	certificate = certify_server(&p->ca, p->server.key, now_ns);
	if (certificate == NULL)
		return tls_fail(err, -EIO, "renew the server's certificate");
	r = pem_save_certificate(p->dir, "server.pem", certificate, err);
	if (r < 0) {
		X509_free(certificate);
		return r;
	}
	X509_free(p->server.certificate);
	p->server.certificate = certificate;
	return 1;
}

int
pki_renew(struct pki *p, bool wanted, int64_t now_ns, struct hf_error *err)
{
	HOLD(p);

	return renew(p, wanted, now_ns, err);
}

/* ---- a change of CA ---- */

static int
rotate(struct pki *p, int64_t now_ns, struct hf_error *err)
{
	struct key_pair next;
	int r;

	if (p->next.certificate != NULL)
		return hf_error_say(
		    err, -EALREADY, "the CA is being changed already: holdfastctl ca show says how far that is");
	r = make_ca(now_ns, &next, err);
	if (r < 0)
		return r;
	r = pem_save_key(p->dir, "ca-next.key", next.key, err);
	if (r == 0)
		r = pem_save_certificate(p->dir, "ca-next.pem", next.certificate, err);
	if (r < 0) {
		key_pair_fini(&next);
		return r;
	}
	p->next = next;
	atomic_fetch_add(&p->generation, 1);
	return 0;
}

int
pki_rotate(struct pki *p, int64_t now_ns, struct hf_error *err)
{
	HOLD(p);

	return rotate(p, now_ns, err);
}

/* All or nothing, as far as a disk that does not sync can be told: who cannot say that it will last takes it back. */
static int
exchange(struct pki *p, const char *new_dir, struct hf_error *err)
{
	int r;

	if (renameat2(AT_FDCWD, new_dir, AT_FDCWD, p->dir, RENAME_EXCHANGE) < 0)
		return hf_error_set(err, -errno, "exchange %s and %s", new_dir, p->dir);
	r = sync_parent(p->dir, err);
	if (r == 0)
		return 0;
	if (renameat2(AT_FDCWD, new_dir, AT_FDCWD, p->dir, RENAME_EXCHANGE) < 0)
		return 0;                /* it stays as it is now, then */
	(void)sync_parent(p->dir, NULL); /* the reason is known */
	return r;
}

static int
retire(struct pki *p, int64_t now_ns, struct hf_error *err)
{
	struct key_pair server = {.key = p->server.key};
	char new_dir[PEM_PATH_BYTES + 4];
	int r;

	if (p->next.certificate == NULL)
		return hf_error_say(err, -ENOENT, "there is no next CA: holdfastctl ca rotate makes one");
	server.certificate = certify_server(&p->next, server.key, now_ns);
	if (server.certificate == NULL)
		return tls_fail(err, -EIO, "certify the server");
	snprintf(new_dir, sizeof new_dir, "%s.new", p->dir);
	r = make_new_dir(new_dir, &p->next, &server, err);
	if (r == 0)
		r = exchange(p, new_dir, err);
	if (r < 0) {
		X509_free(server.certificate);
		return r;
	}
	remove_left_over(new_dir); /* what was pki; or at the next start */
	X509_free(p->server.certificate);
	p->server.certificate = server.certificate;
	key_pair_fini(&p->ca);
	p->ca = p->next;
	p->next = (struct key_pair){0};
	atomic_fetch_add(&p->generation, 1);
	return 0;
}

int
pki_retire(struct pki *p, int64_t now_ns, struct hf_error *err)
{
	HOLD(p);

	return retire(p, now_ns, err);
}

/* ---- a server's certificate put there by somebody else ---- */

static int
check_server(const struct pki *p, struct hf_error *err)
{
	if (server_fits(p))
		return 0;
	return hf_error_say(err, -HF_ECORRUPT,
	    "%s: server.pem and server.key are not a pair for a server, signed by this CA; without them a start makes "
	    "both "
	    "anew",
	    p->dir);
}

/* An expired one is renewed at every start, but nobody may be made to use one. */
static int
refuse_expired(const struct pki *p, const struct pki *fresh, int64_t now_ns, struct hf_error *err)
{
	int64_t end_ns = certificate_time_ns(X509_get0_notAfter(fresh->server.certificate));
	char end[UNITS_TEXT_BYTES];

	if (end_ns > now_ns || X509_cmp(p->server.certificate, fresh->server.certificate) == 0)
		return 0;
	return hf_error_say(err, -HF_EEXPIRED, "%s/server.pem expired at %s: holdfastctl cert renew makes a good one",
	    p->dir, time_format(end_ns, end));
}

static int
load_server(const struct pki *p, int64_t now_ns, struct key_pair *ret_server, struct hf_error *err)
{
	struct pki fresh = {.ca = p->ca};
	int r;

	strcpy(fresh.dir, p->dir);
	r = pem_load_certificate(p->dir, "server.pem", &fresh.server.certificate, err);
	if (r == 0)
		r = pem_load_key(p->dir, "server.key", &fresh.server.key, err);
	if (r == 0)
		r = check_server(&fresh, err);
	if (r == 0)
		r = refuse_expired(p, &fresh, now_ns, err);
	if (r < 0) {
		key_pair_fini(&fresh.server);
		return r;
	}
	*ret_server = fresh.server;
	return 0;
}

int
pki_reload(struct pki *p, int64_t now_ns, struct hf_error *err)
{
	struct key_pair fresh, old;
	bool same;
	int r = load_server(p, now_ns, &fresh, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&p->mutex);
	old = p->server;
	p->server = fresh;
	pthread_mutex_unlock(&p->mutex);
	same = X509_cmp(old.certificate, fresh.certificate) == 0;
	key_pair_fini(&old);
	return same ? 0 : 1;
}

/* Half of a server's pair is left by a start that was cut, and made whole by the next. */
static int
check_files(struct pki *p, int64_t now_ns, struct hf_error *err)
{
	int r = load(p, err);

	if (r == 0)
		r = check_ca(p, now_ns, err);
	if (r == 0 && p->server.certificate != NULL && p->server.key != NULL)
		r = check_server(p, err);
	return r;
}

int
pki_check(const char *dir, int64_t now_ns, struct hf_error *err)
{
	struct pki p = {0};
	int r = dir_in_use(dir, err);

	if (r <= 0)
		return r;
	snprintf(p.dir, sizeof p.dir, "%s", dir);
	r = check_files(&p, now_ns, err);
	key_pair_fini(&p.ca);
	key_pair_fini(&p.next);
	key_pair_fini(&p.server);
	return r;
}

/* ---- signing ---- */

static X509 *
certify_source(const struct key_pair *ca, EVP_PKEY *key, const struct id *source, int64_t lifetime_ns, int64_t now_ns)
{
	int64_t end_ns = now_ns + lifetime_ns, ca_end_ns = certificate_time_ns(X509_get0_notAfter(ca->certificate));

	return certificate_make(&(struct certificate_recipe){
	    .common_name = source->text,
	    .key = key,
	    .issuer = ca,
	    .not_before_ns = now_ns - PKI_CLOCK_LEEWAY_NS,
	    .not_after_ns = end_ns < ca_end_ns ? end_ns : ca_end_ns,
	    .constraints = "critical,CA:FALSE",
	    .usage = "critical,digitalSignature",
	    .extended_usage = "clientAuth",
	});
}

static void
describe_certificate(
    const struct key_pair *ca, X509 *x, const struct id *source, struct registry_certificate *ret_record)
{
	memset(ret_record, 0, sizeof *ret_record);
	certificate_get_fingerprint(x, ret_record->fingerprint);
	certificate_serial(x, ret_record->serial, sizeof ret_record->serial);
	certificate_format_fingerprint(ca->certificate, ret_record->issuer);
	ret_record->source = *source;
	ret_record->not_before_ns = certificate_time_ns(X509_get0_notBefore(x));
	ret_record->not_after_ns = certificate_time_ns(X509_get0_notAfter(x));
}

int
pki_sign(struct pki *p, const struct message_blob *csr, const struct id *source, bool takes_next, int64_t lifetime_ns,
    int64_t now_ns, struct message_blob *ret_certificate, struct registry_certificate *ret_record, struct hf_error *err)
{
	X509_REQ *request = request_read(csr, err);
	const struct key_pair *ca;
	X509 *x;
	HOLD(p);

	if (request == NULL)
		return -HF_EPROTOCOL;
	assert(id_valid("s", source->text));
	ca = takes_next && p->next.certificate != NULL ? &p->next : &p->ca;
	x = certify_source(ca, X509_REQ_get0_pubkey(request), source, lifetime_ns, now_ns);
	X509_REQ_free(request);
	if (x == NULL || !certificate_encode(x, ret_certificate)) {
		X509_free(x);
		return tls_fail(err, -EIO, "sign a certificate");
	}
	describe_certificate(ca, x, source, ret_record);
	X509_free(x);
	return 0;
}

/* ---- tokens ---- */

const char *
pki_cure(const struct id *source, char *buf)
{
	snprintf(buf, SENTENCE_BYTES, "holdfastctl token create --source %s", source->text);
	return buf;
}

/* RFC 4648, lower case, of a whole number of 40-bit groups. */
static void
base32_format(const unsigned char *bytes, size_t len, char *ret_text)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";

	assert(len % 5 == 0);
	for (size_t bit = 0; bit < len * 8; bit += 5) {
		unsigned pair = (unsigned)bytes[bit / 8] << 8 | (bit / 8 + 1 < len ? bytes[bit / 8 + 1] : 0);

		*ret_text++ = letters[pair >> (11 - bit % 8) & 31];
	}
	*ret_text = '\0';
}

void
pki_hash_token(const unsigned char *secret, unsigned char *ret_hash)
{
	_Static_assert((int)TOKEN_HASH_BYTES == SHA256_DIGEST_LENGTH, "a token is known by its SHA-256");

	SHA256(secret, TOKEN_SECRET_BYTES, ret_hash);
}

void
pki_make_token(struct pki *p, const struct id *source, int64_t lifetime_ns, int64_t now_ns,
    struct registry_token *ret_token, char *ret_text)
{
	unsigned char secret[TOKEN_SECRET_BYTES];
	char text[TOKEN_SECRET_BYTES * 8 / 5 + 1], ca[FINGERPRINT_TEXT_BYTES];

	random_bytes(secret, sizeof secret);
	memset(ret_token, 0, sizeof *ret_token);
	ret_token->id = id_random("tok");
	ret_token->created_ns = now_ns;
	ret_token->expires_ns = now_ns + lifetime_ns;
	if (source != NULL)
		ret_token->source = *source;
	pki_hash_token(secret, ret_token->hash);
	base32_format(secret, sizeof secret, text);
	snprintf(ret_text, TOKEN_TEXT_BYTES, "hf1.%s.%s", text, pki_ca_fingerprint(p, ca));
	OPENSSL_cleanse(secret, sizeof secret);
	OPENSSL_cleanse(text, sizeof text);
}
