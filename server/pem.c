/* SPDX-License-Identifier: Apache-2.0 */
#include "server/pem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/pem.h>

#include "proto/common/log.h"
#include "proto/common/status.h"
#include "server/certificate.h"

const char *
pem_path(const char *dir, const char *name, char *buf)
{
	snprintf(buf, PEM_PATH_BYTES, "%s/%s", dir, name);
	return buf;
}

int
pem_sync_dir(const char *dir, struct hf_error *err)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0 || fsync(fd) < 0)
		r = hf_error_set(err, -errno, "sync %s", dir);
	if (fd >= 0)
		close(fd);
	return r;
}

static int
write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A new file of exactly these bytes, durable but for its name. */
static int
write_file(const char *path, const char *bytes, size_t len, struct hf_error *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), r;

	if (fd < 0)
		return hf_error_set(err, -errno, "create %s", path);
	r = write_all(fd, bytes, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r < 0 ? hf_error_set(err, r, "write %s", path) : 0;
}

/* name in dir becomes what bio holds, or stays as it was. Takes bio. */
static int
replace_file(const char *dir, const char *name, BIO *bio, struct hf_error *err)
{
	char path[PEM_PATH_BYTES], new_path[PEM_PATH_BYTES + 4], *bytes;
	long len = BIO_get_mem_data(bio, &bytes);
	int r;

	pem_path(dir, name, path);
	snprintf(new_path, sizeof new_path, "%s.new", path);
	r = write_file(new_path, bytes, (size_t)len, err);
	if (r == 0 && rename(new_path, path) < 0)
		r = hf_error_set(err, -errno, "rename %s", new_path);
	if (r == 0)
		r = pem_sync_dir(dir, err);
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
