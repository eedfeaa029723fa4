/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pem.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/pem.h>

#include "proto/common/file.h"
#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/certificate.h"

const char *
pem_path(const char *dir, const char *name, char *buf)
{
	snprintf(buf, PEM_PATH_BYTES, "%s/%s", dir, name);
	return buf;
}

/* name in dir becomes what bio holds, or stays as it was. Takes bio. */
static int
replace_file(const char *dir, const char *name, BIO *bio, struct hf_error *err)
{
	char path[PEM_PATH_BYTES], *bytes;
	long len = BIO_get_mem_data(bio, &bytes);
	int r = file_replace(pem_path(dir, name, path), 0600, bytes, (size_t)len, err);

	BIO_free(bio);
	return r;
}

int
pem_save_certificate(const char *dir, const char *name, X509 *certificate, struct hf_error *err)
{
	BIO *bio = BIO_new(BIO_s_mem());

	if (bio == NULL || PEM_write_bio_X509(bio, certificate) != 1) {
		BIO_free(bio);
		return tls_fail(err, -ENOMEM, name);
	}
	return replace_file(dir, name, bio, err);
}

int
pem_save_key(const char *dir, const char *name, EVP_PKEY *key, struct hf_error *err)
{
	BIO *bio = BIO_new(BIO_s_secmem());

	if (bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
		BIO_free(bio);
		return tls_fail(err, -ENOMEM, name);
	}
	return replace_file(dir, name, bio, err);
}

/* Never ask for a password on a terminal. */
static int
no_password(char *buf, int size, int writing, void *arg)
{
	return -1;
}

int
pem_load_certificate(const char *dir, const char *name, X509 **ret, struct hf_error *err)
{
	char path[PEM_PATH_BYTES];
	FILE *file = fopen(pem_path(dir, name, path), "re");
	X509 *x;

	if (file == NULL)
		return errno == ENOENT ? 0 : hf_error_set(err, -errno, "%s", path);
	x = PEM_read_X509(file, NULL, no_password, NULL);
	fclose(file);
	if (x == NULL)
		return tls_fail(err, -HF_ECORRUPT, path);
	*ret = x;
	return 0;
}

/* A key that others could read is closed to them: a copy of the data directory may have lost its
 * modes. */
static void
close_to_others(FILE *file, const char *path)
{
	struct stat st;

	if (fstat(fileno(file), &st) < 0 || (st.st_mode & 077) == 0)
		return;
	if (fchmod(fileno(file), 0600) == 0)
		log_warning(
		    "key_mode_changed", "path=%s msg=\"others could read this key; its mode is 0600 now\"", path);
	else
		log_warning("key_mode_open", "path=%s msg=\"others can read this key: chmod 0600 it\"", path);
}

int
pem_load_key(const char *dir, const char *name, EVP_PKEY **ret, struct hf_error *err)
{
	char path[PEM_PATH_BYTES];
	FILE *file = fopen(pem_path(dir, name, path), "re");
	EVP_PKEY *key;

	if (file == NULL)
		return errno == ENOENT ? 0 : hf_error_set(err, -errno, "%s", path);
	close_to_others(file, path);
	key = PEM_read_PrivateKey(file, NULL, no_password, NULL);
	fclose(file);
	if (key == NULL)
		return tls_fail(err, -HF_ECORRUPT, path);
	*ret = key;
	return 0;
}
