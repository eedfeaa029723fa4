/* SPDX-License-Identifier: Apache-2.0 */
/* freeze_record.h: what is being frozen, written down where no reboot finds it again, so that it can be thawed when
 * everybody who would have thawed it was killed. freeze_record.c has the format. */
#ifndef HF_AGENT_FREEZE_RECORD_H
#define HF_AGENT_FREEZE_RECORD_H

#include <stddef.h>

#include "agent/file_system.h"
#include "proto/common/error.h"

enum { FREEZE_MOUNTS_MAX = 64 };

struct frozen_mount {
	struct file_system file_system; /* what is mounted there */
	const char *mountpoint;         /* absolute, of one line */
};

/* Where records are: in $RUNTIME_DIRECTORY, which systemd sets, or else in /run/holdfast-agent. Into buf (PATH_MAX
 * bytes); returns buf. */
const char *freeze_record_directory(char *buf);

/* A new, empty record in directory, which is made if there is none. Returns its descriptor and writes its path
 * (PATH_MAX bytes), or -errno. It is locked until the descriptor is closed in every process that inherited it: so long
 * somebody lives who thaws. Blocks only for as long as another looks at it. */
int freeze_record_create(const char *directory, char *ret_path, struct hf_error *err);

/* Write down all of them, before the first is frozen. 0; -errno: then nothing is written down. System calls only. */
int freeze_record_write(int record, const struct frozen_mount *mounts, size_t count);

/* Nothing that it named is frozen any more. System calls only. */
void freeze_record_strike(int record);

/* Read a whole record. Gives *ret_text, which the mounts (FREEZE_MOUNTS_MAX of them) point into. Returns their count: 0
 * too if it was not written to its end, for then nothing was frozen; -EBADMSG if that is no record; -errno. */
int freeze_record_read(int record, struct frozen_mount *ret_mounts, char **ret_text);

#endif
