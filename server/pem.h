/* SPDX-License-Identifier: Apache-2.0 */
/* pem.h: keys and certificates as files of a directory, 0600. Saving replaces a file as a whole:
 * after a crash it is the old or the new one. All calls block. */
#ifndef HF_SERVER_PEM_H
#define HF_SERVER_PEM_H

#include <openssl/types.h>

#include "proto/common/error.h"

enum { PEM_PATH_BYTES = 512 }; /* of directory, name and ".new" */

/* dir/name into buf (PEM_PATH_BYTES); returns buf. */
const char *pem_path(const char *dir, const char *name, char *buf);

int pem_save_certificate(const char *dir, const char *name, X509 *certificate, struct hf_error *err);
int pem_save_key(const char *dir, const char *name, EVP_PKEY *key, struct hf_error *err);

/* Give what is in the file. Without the file they return 0 and leave *ret as it was. -HF_ECORRUPT.
 * A key that others could read is closed to them, with a warning in the log. */
int pem_load_certificate(const char *dir, const char *name, X509 **ret, struct hf_error *err);
int pem_load_key(const char *dir, const char *name, EVP_PKEY **ret, struct hf_error *err);

#endif
