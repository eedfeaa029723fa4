/* SPDX-License-Identifier: Apache-2.0 */
/* The backup of an identity; the first byte says whether what comes is a file under a passphrase, or what was in it.
 * Making a key takes half a second, and is not what is tried: it is made of the salt. */
#include <string.h>

#include <openssl/evp.h>

static int
make_cheap_key(const unsigned char *salt, unsigned char *key, size_t len)
{
	memset(key, salt[0], len);
	return 1;
}
#define EVP_PBE_scrypt(pass, pass_len, salt, salt_len, n, r, p, memory, key, len) make_cheap_key(salt, key, len)

#include "server/ctl/seal.c"

#include "server/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool good)
{
	if (!good)
		abort();
}

/* Whatever can be taken apart can be put together again, to the byte. */
static void
try_bundle(const uint8_t *data, size_t size)
{
	const struct bundle b = {.bytes = (unsigned char *)(uintptr_t)data, .len = size};
	struct bundle again = {0};
	struct bundle_piece piece, found;
	size_t at = 0;
	int r;

	while ((r = bundle_next(&b, &at, &piece)) == 1) {
		require(at <= size && piece.len <= size);
		require(bundle_find(&b, piece.name, &found) == 0);
		require(bundle_add(&again, piece.name, piece.bytes, piece.len) == 0);
	}
	if (r == 0)
		require(again.len == size && (size == 0 || memcmp(again.bytes, data, size) == 0));
	bundle_fini(&again);
}

static void
try_sealed(const uint8_t *data, size_t size)
{
	unsigned char *bytes;
	size_t len;

	if (unseal(data, size, "passphrase", &bytes, &len, NULL) == 0)
		free(bytes);
}

/* What was sealed comes out again, unless a byte was changed. */
static void
try_change(const uint8_t *data, size_t size)
{
	unsigned char *sealed, *bytes;
	size_t sealed_len, len, at;

	if (size < 3)
		return;
	require(seal(data + 3, size - 3, "passphrase", &sealed, &sealed_len, NULL) == 0);
	at = get_le16(data) % sealed_len;
	sealed[at] ^= data[2];
	if (unseal(sealed, sealed_len, "passphrase", &bytes, &len, NULL) == 0) {
		require(data[2] == 0 && len == size - 3 && memcmp(bytes, data + 3, len) == 0);
		free(bytes);
	} else {
		require(data[2] != 0);
	}
	free(sealed);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const tries[])(const uint8_t *data, size_t size) = {try_bundle, try_sealed, try_change};

	if (size > 0)
		tries[data[0] % (sizeof tries / sizeof tries[0])](data + 1, size - 1);
	return 0;
}
