/* SPDX-License-Identifier: Apache-2.0 */
/* job_impl.h: inside of a store_job: shared by store_job.c and the files of its kinds, job_*.c, and nobody else. */
#ifndef HF_STORAGE_JOB_IMPL_H
#define HF_STORAGE_JOB_IMPL_H

#include "storage/store_impl.h"

#define JOB_RETRY_NS NS_PER_SECOND /* after a failure */

/* A kind of job. make() and finish() are called by the owner, run() by another thread, with its own disk. */
struct job_class {
	const char *name;
	bool slow;   /* for the maintenance thread; else for the catalog thread */
	bool points; /* changes kept points: not while a fold is out, and the other way round */
	bool ingest; /* room for what comes in: it stalls when there is none, and has no part in the reserve */
	bool frees;  /* room: what it brought shows when it is measured next */
	bool alone;  /* moves history about: not while another such job is out */
	bool asked;  /* made when somebody asks for it, who waits for its end */
	struct store_job *(*make)(struct store *s); /* NULL if there is nothing to do; not of those asked for */
	int (*run)(struct store_job *job, struct disk *d, struct run_cache *cache);
	void (*finish)(struct store *s, struct store_job *job); /* or NULL */
};

extern const struct job_class prepare_job, build_job, points_job, fold_job, mend_job, scrub_job, scrub_note_job,
    copy_job, declare_job, pit_keep_job, pit_change_job, policy_job, thin_job, quota_job;
extern const struct job_class equal_job, freeze_job, merge_job, punch_job, account_job, plan_job, leave_job;

struct declared { /* one row of a declaration, and what became of it */
	struct store_declaration want;
	struct store_volume was; /* volume = 0: not known yet */
	bool filling;            /* it had a cursor then, which goes on meanwhile */
	bool grown, made;
	struct volume *files;      /* made */
	struct sum_cursor *cursor; /* loaded for a volume that was full and grew, or comes back half filled */
	uint32_t volume;
	int status;
	char text[256];
};

struct store_job {
	enum job_kind kind;
	bool finished;
	struct store *store; /* read only what never changes, or what no other thread changes while the job is out */
	int status;
	char text[512];

	struct segment *segment; /* PREPARE: made; BUILD: sealed, immutable; MERGE: the first; PUNCH: merged */
	struct run *run;         /* BUILD: made */
	struct view *view;       /* FOLD */
	uint64_t lsn; /* FOLD: target; PIT_KEEP: the checkpoint; PIT_CHANGE: the same, if it is in the window */
	uint64_t reserve_bytes; /* PREPARE: of what is free, for maintenance alone */
	uint64_t *numbers;      /* FOLD: files to remove; EQUAL: volumes */
	size_t number_count;
	size_t released; /* FOLD: segments they are of */
	struct merge_work *merge;
	struct punch_work *punch;
	struct fold_stats fold;
	bool removed;           /* FOLD: what it released, durably */
	struct leaving leaving; /* LEAVE */
	struct damage *rot;     /* FOLD: known, and taken along */
	size_t rot_count;
	struct view_fault fault; /* FOLD: why it failed, if it was a block */
	bool begun;              /* FOLD: the catalog says fold to lsn */

	uint64_t commits; /* COPY: of the catalog, that the copy will have at least */

	struct checkpoint checkpoint; /* POINTS, PIT_KEEP */
	bool keep;                    /* POINTS: whatever the rules say */
	bool settle;                  /* POINTS: the kept points are in doubt */
	bool gone;                    /* POINTS: the checkpoint is no point any more: it is not kept */
	struct policy policy;         /* POINTS, POLICY */
	struct id pit;                /* PIT_CHANGE */
	enum store_pit_verb verb;
	bool hold;
	int64_t equal_ns;             /* EQUAL */
	bool expire;                  /* POINTS: retention is not stopped */
	int64_t running_ns;           /* PIT_CHANGE: the source's */
	int64_t frozen_ns;            /* FREEZE */
	struct account_work *account; /* ACCOUNT, PLAN */
	bool *going;                  /* PLAN: of pits */
	char name[PIT_NAME_BYTES];
	struct pit *pits; /* what is kept afterwards */
	size_t pit_count;
	bool pits_valid;

	struct pit taken;     /* POINTS, PIT_KEEP: kept, and was not before; no id: none */
	struct pit thinned;   /* THIN */
	uint64_t quota_bytes; /* QUOTA */
	enum when_full when_full;
	struct scrub_work *scrub; /* MEND, SCRUB, SCRUB_NOTE */

	struct declared *declared; /* DECLARE: those declared, then those that no longer are */
	size_t declared_count, retired_count;
	uint32_t volume_last;
	bool folding; /* DECLARE: a fold was out when it was made */
};

struct store_job *job_create(struct store *s, enum job_kind kind); /* NULL when out of memory */

int job_pause(void *pace); /* pace_pause(), for those who are given what to call */

/* Why it failed, for a person; gives back status. */
int job_say(struct store_job *job, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* job_points.c: the owner's copy of the kept points, when the job has read them again */
void job_take_pits(struct store *s, struct store_job *job);
/* job_points.c: the kept points from the catalog, one of them into it, and over to the owner */
int job_reload_pits(struct store_job *job);
void job_drop_pits(struct store_job *job);
int job_put_pit(struct store_job *job, const struct pit *p);

/* job_scrub.c */
void account_work_destroy(struct account_work *w, struct disk *d); /* job_account.c; NULL allowed */
void scrub_work_destroy(struct scrub_work *w);                     /* NULL allowed */

/* job_merge.c, job_punch.c; NULL is allowed */
void merge_work_destroy(struct merge_work *w, struct disk *d);
void punch_work_destroy(struct punch_work *w, struct disk *d);

/* job_declare.c: a cursor that was kept for a volume that did not grow after all */
void declare_end_growing(struct store *s);

#endif
