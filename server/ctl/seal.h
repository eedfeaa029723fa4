/* SPDX-License-Identifier: Apache-2.0 */
/* seal.h: bytes under a passphrase: scrypt makes the key, AES-256-GCM encrypts and proves that nothing was changed.
 * docs/format.md has the bytes. In memory alone; making the key takes 128 MiB and about half a second. */
#ifndef HF_CTL_SEAL_H
#define HF_CTL_SEAL_H

#include <stddef.h>

#include "proto/common/error.h"

enum { SEAL_VERSION = 1, SEAL_BYTES_MAX = 1 << 30 };

/* Gives *ret_sealed (free()). -HF_ETOOBIG, -ENOMEM, -EIO. */
int seal(const unsigned char *bytes, size_t len, const char *passphrase, unsigned char **ret_sealed, size_t *ret_len,
    struct hf_error *err);

/* Gives *ret_bytes (free(), after wiping it). -HF_ECORRUPT: not sealed by us, or cut off; -HF_EFORMAT: by a newer
 * version; -EACCES: the passphrase is wrong, or a byte was changed: it cannot be told which. */
int unseal(const unsigned char *sealed, size_t len, const char *passphrase, unsigned char **ret_bytes, size_t *ret_len,
    struct hf_error *err);

#endif
