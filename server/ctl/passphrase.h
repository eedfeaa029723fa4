/* SPDX-License-Identifier: Apache-2.0 */
/* passphrase.h: a secret from a file, or from a person at the terminal, unseen. Errors are said on stderr; the exit
 * code is returned. */
#ifndef HF_CTL_PASSPHRASE_H
#define HF_CTL_PASSPHRASE_H

#include "server/ctl/ctl.h"

enum { PASSPHRASE_BYTES = 1024, PASSPHRASE_MIN = 8 };

/* --passphrase-file, or the terminal: twice if it is a new one. */
int passphrase_get(const struct ctl *ctl, bool is_new, char ret_passphrase[PASSPHRASE_BYTES]);

#endif
