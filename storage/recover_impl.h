/* SPDX-License-Identifier: Apache-2.0 */
/* recover_impl.h: what the steps of a recovery share, for the recover*.c files alone. */
#ifndef HF_STORAGE_RECOVER_IMPL_H
#define HF_STORAGE_RECOVER_IMPL_H

#include "storage/store_impl.h"

struct found { /* a number in the journal's folder: a segment, a packed one, a run */
	uint64_t number;
	bool has_segment, has_run;
	bool valid;      /* the segment's header can be read */
	bool packed;     /* it is a packed one */
	bool superseded; /* its number is in the range of a merged run: at most its data is needed */
	bool taken;      /* its run is used */
	uint64_t limit;  /* where a later segment says the journal went on: at most to there do its records count */
	struct shared_file *file;
	struct segment_header header;
	struct run *run; /* NULL though there is one: it is damaged */
	struct run_info info;
};

struct recovery {
	struct store *s;
	struct disk *d;
	struct hf_error *err;
	bool read_only, first;
	struct found *found;
	size_t count, capacity;
	struct journal_state state;
	struct segment *scanning;            /* the segment whose records are being read */
	int status;                          /* of a callback */
	uint32_t deleted[STORE_VOLUMES_MAX]; /* numbers of volumes that were deleted */
	size_t deleted_count;
};

/* Not when it is read-only: 0. */
int recovery_remove_file(struct recovery *v, const char *dir, const char *name);
int recovery_open_file(struct recovery *v, const char *path, uint64_t number, struct shared_file **ret_file);

/* ---- recover_volume.c ---- */
int recovery_find_volumes(struct recovery *v);
/* Its staging file has no data, or is not there. */
bool recovery_holds_nothing(struct recovery *v, const struct volume *vol);
/* Those that were cut off while they were made: whole, but neither the catalog nor the journal knows them. Kept, one
 * might be taken for the one that was made after it. */
void recovery_sweep_unknown_volumes(struct recovery *v);
/* Once the journal was read: what it says of volumes that are gone; and of one that is there, beyond whose frontier
 * nothing is left then. */
void recovery_settle_deleted(struct recovery *v);
int recovery_settle_volume(struct recovery *v, struct volume *vol);

/* ---- recover_found.c ---- */
int recovery_find_segments(struct recovery *v);
struct found *recovery_find_number(struct recovery *v, uint64_t number); /* NULL: there is none */
bool found_is_merged(const struct found *f);
/* What the header of the segment would say its run says too: of one that was merged, and of one whose header has
 * rotted. */
bool found_stands_by_run(const struct found *f);
/* What nobody has taken. A run goes after its segments, as at the end of a fold: without it nobody could tell that
 * holes were made in them. */
int recovery_remove_untaken(struct recovery *v);
int recovery_sync_journal_dir(struct recovery *v);

/* ---- recover_journal.c ---- */
int recovery_read_journal(struct recovery *v);

#endif
