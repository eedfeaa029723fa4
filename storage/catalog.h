/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.h: what is known of one source beside its data: volumes, kept points in time, policy, base. SQLite (WAL,
 * synchronous=FULL, locking_mode=EXCLUSIVE, one connection, no mmap), <data>/sources/s-.../catalog.db. Every call
 * blocks (disk and a mutex of its own): never from a worker. Each change is one transaction, durable when the call
 * returns. Errors: -errno, -HF_ECORRUPT, -HF_EFORMAT (schema newer), -HF_EFULL. */
#ifndef HF_STORAGE_CATALOG_H
#define HF_STORAGE_CATALOG_H

#include "proto/common/error.h"
#include "storage/checkpoint.h"

struct catalog;

struct catalog_source {
	struct id source;
	uint64_t digest_seed;
	uint64_t base_lsn; /* staging files hold every write up to it */
	uint64_t fold_lsn; /* a fold to it has begun (>= base_lsn): points before it are gone */
	int64_t created_ns;
};

struct catalog_volume {
	uint32_t volume;
	struct id id;
	uint64_t size_bytes;
	bool boot_disk, retired; /* retired: no longer declared; lives on in old points */
	char identity[128], name[128], device_name[256];
};

struct pit_rule { /* "every interval_ns keep one, for retention_ns" */
	uint32_t rule_id;
	char unit[8];                 /* MINUTE, HOUR, DAY: as it was given */
	uint32_t interval, retention; /* in units */
	bool enabled;
};

enum { PIT_RULES_MAX = 16, PIT_NAME_BYTES = 128 };

struct pit {
	struct id id;
	uint64_t lsn;
	int64_t time_ns;    /* actual: our clock at the moment the checkpoint describes (or was still true) */
	int64_t planned_ns; /* by policy: when it was due; else = time_ns */
	uint32_t rules;     /* bit n: kept by rule n + 1 of the policy */
	bool held, by_hand, complete, verified;
	enum checkpoint_consistency consistency;
	char name[PIT_NAME_BYTES];    /* "" = none */
	bool kept;                    /* a row of the catalog; false: only inside the journal window */
	struct checkpoint checkpoint; /* volumes and sizes */
};

struct policy {
	struct pit_rule rules[PIT_RULES_MAX];
	size_t rule_count;
	int64_t journal_window_ns;
};

/* DRS's three rules and one hour of journal window. */
void policy_default(struct policy *ret_policy);

/* Open (create: with source filled in, and policy_default()) at path. vfs: NULL, or the name of a SQLite VFS (tests).
 * Creating: -EEXIST if it holds a source already; what a cut during creation left is gone on with. Opening: -EBUSY:
 * open elsewhere. */
int catalog_open(const char *path, const char *vfs, bool create, const struct catalog_source *source,
    struct catalog **ret_catalog, struct hf_error *err);
void catalog_close(struct catalog *c); /* NULL allowed */

int catalog_get_source(struct catalog *c, struct catalog_source *ret_source, struct hf_error *err);
int catalog_set_fold(struct catalog *c, uint64_t fold_lsn,
    struct hf_error *err); /* also deletes every point with lsn < fold_lsn; -EBUSY: one of them is held */
int catalog_set_base(
    struct catalog *c, uint64_t base_lsn, struct hf_error *err); /* -EINVAL: backwards, or beyond fold_lsn */

int catalog_list_volumes(
    struct catalog *c, struct catalog_volume *ret_volumes, size_t max, size_t *ret_count, struct hf_error *err);
int catalog_put_volume(
    struct catalog *c, const struct catalog_volume *volume, struct hf_error *err); /* insert, or update by number */

int catalog_get_policy(struct catalog *c, struct policy *ret_policy, struct hf_error *err);
int catalog_set_policy(struct catalog *c, const struct policy *policy, struct hf_error *err);

/* Kept points, in LSN order, into an array the caller frees. */
int catalog_list_pits(struct catalog *c, struct pit **ret_pits, size_t *ret_count, struct hf_error *err);
int catalog_put_pit(struct catalog *c, const struct pit *pit, struct hf_error *err); /* insert or replace by id */
/* All or none; ids that are not there are no error. */
int catalog_delete_pits(struct catalog *c, const struct id *ids, size_t count, struct hf_error *err);

#endif
