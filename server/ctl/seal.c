/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/seal.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "proto/common/bytes.h"
#include "proto/common/status.h"

enum {
	MAGIC_BYTES = 8,
	HEADER_BYTES = 64,
	SALT_BYTES = 16,
	NONCE_BYTES = 12,
	KEY_BYTES = 32,
	TAG_BYTES = 16,
	COST_LOG2 = 17, /* OWASP's for scrypt: N = 2^17, r = 8, p = 1 */
	COST_LOG2_MAX = 20,
};

static const char magic[MAGIC_BYTES] = "HFIDENT";

/* The header, which is authenticated with what it precedes. */
struct header {
	unsigned version, cost_log2;
	uint64_t len; /* of what was sealed */
	unsigned char salt[SALT_BYTES], nonce[NONCE_BYTES];
};

static void
header_encode(const struct header *h, unsigned char *p)
{
	memset(p, 0, HEADER_BYTES);
	memcpy(p, magic, MAGIC_BYTES);
	put_le32(p + 8, h->version);
	put_le32(p + 12, h->cost_log2);
	put_le64(p + 16, h->len);
	memcpy(p + 24, h->salt, SALT_BYTES);
	memcpy(p + 40, h->nonce, NONCE_BYTES);
}

static int
header_decode(const unsigned char *p, size_t len, struct header *h, struct hf_error *err)
{
	if (len < HEADER_BYTES || memcmp(p, magic, MAGIC_BYTES) != 0)
		return hf_error_say(err, -HF_ECORRUPT, "it is no backup of an identity, or cut off in its first bytes");
	h->version = get_le32(p + 8);
	h->cost_log2 = get_le32(p + 12);
	h->len = get_le64(p + 16);
	memcpy(h->salt, p + 24, SALT_BYTES);
	memcpy(h->nonce, p + 40, NONCE_BYTES);
	if (h->version != SEAL_VERSION)
		return hf_error_say(
		    err, -HF_EFORMAT, "it is of version %u, and %d is the newest known here", h->version, SEAL_VERSION);
	if (h->cost_log2 == 0 || h->cost_log2 > COST_LOG2_MAX || h->len > SEAL_BYTES_MAX)
		return hf_error_say(err, -HF_ECORRUPT, "its header makes no sense");
	if (len != HEADER_BYTES + h->len + TAG_BYTES)
		return hf_error_say(err, -HF_ECORRUPT, "it is %s: %zu bytes of %zu",
		    len < HEADER_BYTES + h->len + TAG_BYTES ? "cut off" : "longer than it says", len,
		    (size_t)(HEADER_BYTES + h->len + TAG_BYTES));
	return 0;
}

static int
make_key(const struct header *h, const char *passphrase, unsigned char *ret_key, struct hf_error *err)
{
	uint64_t cost = UINT64_C(1) << h->cost_log2;

	if (EVP_PBE_scrypt(passphrase, strlen(passphrase), h->salt, SALT_BYTES, cost, 8, 1,
		2 * 128 * 8 * cost + (1 << 20) /* of memory */, ret_key, KEY_BYTES) == 1)
		return 0;
	return hf_error_say(
	    err, -ENOMEM, "making a key of the passphrase takes %zu MiB of memory", (size_t)(cost >> 10));
}

/* One pass of AES-256-GCM; in and out have len bytes. True: done, and when decrypting the tag fits. */
static bool
crypt_bytes(bool encrypting, const unsigned char *key, const struct header *h, const unsigned char *header,
    const unsigned char *in, unsigned char *out, unsigned char *tag)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int n, len = (int)h->len;
	bool good = c != NULL && EVP_CipherInit_ex(c, EVP_aes_256_gcm(), NULL, key, h->nonce, encrypting) == 1 &&
		    EVP_CipherUpdate(c, NULL, &n, header, HEADER_BYTES) == 1 &&
		    EVP_CipherUpdate(c, out, &n, in, len) == 1 && n == len;

	if (good && !encrypting)
		good = EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1;
	good = good && EVP_CipherFinal_ex(c, out + len, &n) == 1;
	if (good && encrypting)
		good = EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, tag) == 1;
	EVP_CIPHER_CTX_free(c);
	return good;
}

int
seal(const unsigned char *bytes, size_t len, const char *passphrase, unsigned char **ret_sealed, size_t *ret_len,
    struct hf_error *err)
{
	struct header h = {.version = SEAL_VERSION, .cost_log2 = COST_LOG2, .len = len};
	unsigned char key[KEY_BYTES], *out;
	int r;

	_Static_assert(SEAL_BYTES_MAX <= INT_MAX, "OpenSSL takes an int");
	if (len > SEAL_BYTES_MAX)
		return hf_error_set(err, -HF_ETOOBIG, "%zu bytes", len);
	out = malloc(HEADER_BYTES + len + TAG_BYTES);
	if (out == NULL)
		return hf_error_set(err, -ENOMEM, "%zu bytes", len);
	r = RAND_bytes(h.salt, SALT_BYTES) == 1 && RAND_bytes(h.nonce, NONCE_BYTES) == 1
		? make_key(&h, passphrase, key, err)
		: hf_error_set(err, -EIO, "random bytes");
	header_encode(&h, out);
	if (r == 0 && !crypt_bytes(true, key, &h, out, bytes, out + HEADER_BYTES, out + HEADER_BYTES + len))
		r = hf_error_set(err, -EIO, "encrypt");
	OPENSSL_cleanse(key, sizeof key);
	if (r < 0) {
		free(out);
		return r;
	}
	*ret_sealed = out;
	*ret_len = HEADER_BYTES + len + TAG_BYTES;
	return 0;
}

int
unseal(const unsigned char *sealed, size_t len, const char *passphrase, unsigned char **ret_bytes, size_t *ret_len,
    struct hf_error *err)
{
	unsigned char key[KEY_BYTES], tag[TAG_BYTES], *out;
	struct header h;
	int r = header_decode(sealed, len, &h, err);

	if (r < 0)
		return r;
	out = malloc(h.len + 1);
	if (out == NULL)
		return hf_error_set(err, -ENOMEM, "%zu bytes", len);
	memcpy(tag, sealed + len - TAG_BYTES, TAG_BYTES);
	r = make_key(&h, passphrase, key, err);
	if (r == 0 && !crypt_bytes(false, key, &h, sealed, sealed + HEADER_BYTES, out, tag))
		r = hf_error_say(err, -EACCES, "the passphrase is wrong, or the file was changed");
	OPENSSL_cleanse(key, sizeof key);
	if (r < 0) {
		OPENSSL_cleanse(out, h.len);
		free(out);
		return r;
	}
	*ret_bytes = out;
	*ret_len = (size_t)h.len;
	return 0;
}
