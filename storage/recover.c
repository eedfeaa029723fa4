/* SPDX-License-Identifier: Apache-2.0 */
/* recover.c: what a source's folder says after any stop: read, brought in order, and synced before anything relies
 * on it.
 *
 * 1. Volumes: from the headers of their digest files; what is declared and how it is called from the catalog.
 * 2. Segments, in order of number, from the last that begins before the base: each must begin where the journal stands
 *    after the one before. The state after a segment comes from its run, else from reading its descriptors. A merged
 * run stands for a range of them, and says which of their files, and which packed ones, it needs. What is not known to
 * have been durable is written once more where it lies, and synced: a sync that failed before the restart would
 * otherwise report success now.
 * 3. Does the journal begin and end where the catalog, or any segment, proves that it must? Else acknowledged records
 *    are missing: the source is not opened, and nothing is changed.
 * 4. Segments folded into the base, those off the chain (what a cut or a failed write left), and what a merged run
 *    supersedes are removed.
 * 5. The tail is sealed: nothing is ever appended to a segment after a restart.
 * 6. Whatever lies beyond a volume's frontier in its staging and digest files is swept away.
 *
 * Read-only (offline export) takes the same way and changes nothing. */
#include "storage/recover_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/common/status.h"
#include "storage/plant.h"

int
recovery_remove_file(struct recovery *v, const char *dir, const char *name)
{
	char path[PATH_MAX_BYTES];

	if (v->read_only)
		return 0;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return disk_unlink(v->d, path);
}

int
recovery_open_file(struct recovery *v, const char *path, uint64_t number, struct shared_file **ret_file)
{
	return shared_file_open(v->d, path, v->read_only ? DISK_READ : DISK_WRITE, number, ret_file);
}

int
store_recover(struct store *s, struct disk *d, bool read_only, struct hf_error *err)
{
	struct recovery v = {.s = s, .d = d, .err = err, .read_only = read_only};
	int r = recovery_find_volumes(&v);

	if (r == 0)
		r = recovery_read_journal(&v);
	if (r == 0)
		recovery_sweep_unknown_volumes(&v);
	recovery_settle_deleted(&v);
	s->durable = s->placed = v.state;
	s->lsn_next = v.state.lsn_last + !PLANTED(39);
	s->roll = true;
	for (uint32_t i = 0; i < s->volume_count && r == 0; i++)
		r = recovery_settle_volume(&v, s->volumes[i]);
	if (r == 0)
		marks_drop_before(&s->marks, s->fold_lsn);
	for (size_t i = 0; i < v.count; i++) {
		shared_file_unref(v.found[i].file, d);
		run_unref(v.found[i].run, d);
	}
	free(v.found);
	return r;
}
