/* SPDX-License-Identifier: Apache-2.0 */
/* offline.h: the staging area read by holdfastctl itself, while holdfastd is stopped: its sources, and of one of them
 * the points, the volumes and their bytes, as its journal and staging files tell without any catalog; of the catalog
 * only the names are taken. Nothing is changed, and as long as it is open no holdfastd can take the directory.
 * Everything blocks. Errors are said on stderr; the exit code is returned. */
#ifndef HF_CTL_OFFLINE_H
#define HF_CTL_OFFLINE_H

#include <jansson.h>

#include "server/ctl/ctl.h"
#include "server/ctl/extents.h"

struct offline;

/* EXIT_FAILED: holdfastd has it open, or it is no staging area. */
int offline_open(const char *data_dir, struct offline **ret_offline);
void offline_close(struct offline *o); /* NULL allowed */

/* The sources there are: an array of ids. Borrowed. */
const json_t *offline_sources(const struct offline *o);

/* Open the source with this id, or unique beginning of one, in place of the one before. */
int offline_open_source(struct offline *o, const char *text);

/* Of the open source, in the form of the API as far as the files know it: itself with its volumes (given); its points,
 * an array in order (given): all that the journal holds, with the names, holds and rules of the kept ones if the
 * catalog can be read (kept.h), else without these keys. */
json_t *offline_describe_source(const struct offline *o);
json_t *offline_list_pits(const struct offline *o);
bool offline_knows_names(const struct offline *o);

/* Choose what offline_read() reads: a volume (id or name) at a point (id). */
int offline_open_volume(struct offline *o, const char *volume, const char *pit, uint64_t *ret_size_bytes);

/* With sink->bad what cannot be read is told there, and the reading goes on behind it.
 * Feed the sink from this byte (a multiple of 4096) to the end, in order, every block checked against its digest. The
 * sink's code ends it; EXIT_INTERRUPTED when a signal came. */
int offline_read(struct offline *o, uint64_t from, const struct extents_sink *sink);

#endif
