/* SPDX-License-Identifier: Apache-2.0 */
/* freezable.h: which file systems may be frozen. */
#ifndef HF_AGENT_FREEZABLE_H
#define HF_AGENT_FREEZABLE_H

#include <stddef.h>

#include "proto/common/error.h"

/* 0 if these mount points may be frozen by us. Refused, in words: what is no mount point, or on the same file system as
 * another; and a file system that holds state_directory, record_directory, what systemd needs to start anything of our
 * unit, or a log we write to (standard output or error, if they are files): we, or those who thaw for us, would wait
 * for ourselves. */
int freezable_check(const char *const *mountpoints, size_t count, const char *state_directory,
    const char *record_directory, struct hf_error *err);

#endif
