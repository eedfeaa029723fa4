/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.h: what is known of one source beside its data: volumes, kept points in time, policy, base. SQLite (WAL,
 * synchronous=FULL, locking_mode=EXCLUSIVE, one connection, no mmap), <data>/sources/s-.../catalog.db. Every call
 * blocks (disk and a mutex of its own): never from a worker. Each change is one transaction, durable when the call
 * returns. Errors: -errno, -HF_ECORRUPT, -HF_EFORMAT (schema newer), -HF_EFULL. */
#ifndef HF_STORAGE_CATALOG_H
#define HF_STORAGE_CATALOG_H

#include "proto/common/error.h"
#include "storage/checkpoint.h"
#include "storage/disk.h"
#include "storage/policy.h"

struct catalog;

/* What happens when the staging area has no room left. Values as in the catalog. */
enum when_full {
	WHEN_FULL_DEFAULT = 0, /* as the configuration says */
	WHEN_FULL_STALL = 1,   /* nothing more is taken */
	WHEN_FULL_THIN = 2,    /* the oldest points that may go do so first */
};

struct catalog_source {
	struct id source;
	uint64_t digest_seed;
	uint64_t base_lsn; /* staging files hold every write up to it */
	uint64_t fold_lsn; /* a fold to it has begun (>= base_lsn): points before it are gone */
	int64_t created_ns;
	int64_t frozen_ns;    /* since then no point expires: our clock; 0 = they do */
	uint64_t quota_bytes; /* of the staging area; 0 = no limit */
	enum when_full when_full;
};

struct catalog_volume {
	uint32_t volume;
	struct id id;
	uint64_t size_bytes;
	bool boot_disk, retired; /* retired: no longer declared; lives on in old points */
	bool deleted;            /* its files are gone; the row stays, for its number is never used again */
	int64_t equal_ns;        /* our time: it was proved then to hold what the source's disk held; 0 = never */
	char identity[128], name[128], device_name[256];
};

enum { PIT_NAME_BYTES = 128 };

struct pit {
	struct id id;
	uint64_t lsn;
	int64_t time_ns;     /* actual: our clock at the moment the checkpoint describes (or was still true) */
	int64_t planned_ns;  /* by policy: when it was due; else = time_ns */
	int64_t running_ns;  /* the source's running time then, see checkpoint.h: ages are counted in it */
	int64_t guarded_ns;  /* no rule and nobody deletes it before the source's running time is this (minRetention); 0
				= nobody asks */
	int64_t verified_ns; /* our clock when it was last read back and good; 0 = never */
	uint32_t rules;      /* bit n: kept by rule n + 1 of the policy */
	bool held, by_hand, complete;
	enum checkpoint_consistency consistency;
	char name[PIT_NAME_BYTES];    /* "" = none */
	bool kept;                    /* a row of the catalog; false: only inside the journal window */
	struct checkpoint checkpoint; /* volumes and sizes */
	/* not on disk: */
	bool accounted;        /* the next two are known: see account.h */
	uint64_t unique_bytes; /* of the journal, that only this point sees */
	uint64_t freed_bytes;  /* of the journal, if it were deleted */
};

/* How far a scrub has come, and when the last one ended. */
struct catalog_scrub {
	int64_t begun_ns;  /* our clock; 0 = none is under way */
	uint64_t lsn;      /* the newest when it began */
	uint32_t volume;   /* 0: it is at the runs */
	uint64_t position; /* next block of the volume, or next run */
	uint64_t bytes;    /* read so far */
	bool by_hand;
	int64_t done_ns; /* when the last whole one ended; 0 = none ever */
};

/* A place where rot was found, and which is to be looked at again. */
struct catalog_suspect {
	uint32_t volume; /* 0: page `block` of run `run` */
	uint64_t run, block;
};

/* Open (create: with source filled in, and policy_default()) at path. vfs: NULL, or the name of a SQLite VFS (tests).
 * Creating: -EEXIST if it holds a source already; what a cut during creation left is gone on with. Opening: -EBUSY:
 * open elsewhere. */
int catalog_open(const char *path, const char *vfs, bool create, const struct catalog_source *source,
    struct catalog **ret_catalog, struct hf_error *err);
void catalog_close(struct catalog *c); /* NULL allowed */

/* Changes committed since it was opened. Any thread; does not block. */
uint64_t catalog_commits(const struct catalog *c);
/* SQLite has found damage in it since it was opened: opened again it is checked, and replaced by its copy. The same. */
bool catalog_is_damaged(const struct catalog *c);
/* Write its copy anew, see db_copy.h. What changes meanwhile waits only while pages are read. */
int catalog_write_copy(struct catalog *c, struct disk *d, struct hf_error *err);

/* A commit that changes nothing. When it has come through no change that failed before it can come back after a cut:
 * its part of the log was written over. */
int catalog_settle(struct catalog *c, struct hf_error *err);

int catalog_get_source(struct catalog *c, struct catalog_source *ret_source, struct hf_error *err);
int catalog_set_frozen(struct catalog *c, int64_t frozen_ns, struct hf_error *err); /* 0: thawed */
int catalog_set_space(struct catalog *c, uint64_t quota_bytes, enum when_full when_full, struct hf_error *err);
int catalog_set_fold(struct catalog *c, uint64_t fold_lsn,
    struct hf_error *err); /* also deletes every point with lsn < fold_lsn; -EBUSY: one of them is held */
int catalog_set_base(
    struct catalog *c, uint64_t base_lsn, struct hf_error *err); /* -EINVAL: backwards, or beyond fold_lsn */

int catalog_get_scrub(struct catalog *c, struct catalog_scrub *ret_scrub, struct hf_error *err);
/* With all suspects, in place of those before. */
int catalog_set_scrub(struct catalog *c, const struct catalog_scrub *scrub, const struct catalog_suspect *suspects,
    size_t count, struct hf_error *err);
int catalog_list_suspects(
    struct catalog *c, struct catalog_suspect *ret_suspects, size_t max, size_t *ret_count, struct hf_error *err);

int catalog_list_volumes(
    struct catalog *c, struct catalog_volume *ret_volumes, size_t max, size_t *ret_count, struct hf_error *err);
int catalog_put_volume(struct catalog *c, const struct catalog_volume *volume,
    struct hf_error *err); /* insert, or update by number; equal_ns stays */
/* The volume is deleted, and so are these points. -ENOENT: no such volume, or it is declared. */
int catalog_delete_volume(
    struct catalog *c, uint32_t volume, const struct id *pits, size_t pit_count, struct hf_error *err);
int catalog_set_equal(struct catalog *c, const uint64_t *volumes, size_t count, int64_t equal_ns, struct hf_error *err);

int catalog_get_policy(struct catalog *c, struct policy *ret_policy, struct hf_error *err);
int catalog_set_policy(struct catalog *c, const struct policy *policy, struct hf_error *err);
/* The same, and which rules keep those points now, and until when they are guarded: in one transaction. */
int catalog_change_policy(
    struct catalog *c, const struct policy *policy, const struct pit *pits, size_t count, struct hf_error *err);

/* Kept points, in LSN order, into an array the caller frees. */
int catalog_list_pits(struct catalog *c, struct pit **ret_pits, size_t *ret_count, struct hf_error *err);
int catalog_put_pit(struct catalog *c, const struct pit *pit, struct hf_error *err); /* insert or replace by id */
/* All or none; ids that are not there are no error. */
int catalog_delete_pits(struct catalog *c, const struct id *ids, size_t count, struct hf_error *err);

#endif
