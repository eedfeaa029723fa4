/* SPDX-License-Identifier: Apache-2.0 */
/* sim_tree.h: the file system of the simulated disk: directories and files, each twice, as a reader
 * sees them and as the platter has them, and the list of changes between the two.
 *
 *   change --> visible at once
 *        \---> pending --sync--> durable
 *                    \--power cut--> durable wholly, partly or not at all; then visible := durable
 *
 * The changes of a file (write, truncate, allocate, punch) hang on its inode; changes of names
 * (create, rename, unlink) form one list, for a rename touches two directories and is one change.
 */
#ifndef HF_STORAGE_SIM_TREE_H
#define HF_STORAGE_SIM_TREE_H

#include <stdbool.h>

#include "storage/disk_sim.h"
#include "storage/sim_content.h"
#include "storage/sim_random.h"

enum sim_change_kind { SIM_WRITE, SIM_TRUNCATE, SIM_ALLOCATE, SIM_PUNCH };

/* One pending change of a file. */
struct sim_change {
	struct sim_change *next;
	enum sim_change_kind kind;
	bool chosen;
	uint64_t head;         /* sectors that survive if not all do; 0 = all */
	uint64_t number;       /* of all changes of both kinds, in the order they were made */
	uint64_t completed_at; /* the disk's tick; 0 = in flight */
	uint64_t offset, len;  /* SIM_TRUNCATE: offset is the new size */
	size_t pages_count;
	struct sim_page *pages[]; /* SIM_WRITE */
};

struct sim_entry {
	char *name;
	struct sim_inode *inode; /* holds a reference */
};

struct sim_names {
	struct sim_entry *entries; /* in byte order */
	size_t count, capacity;
};

struct sim_inode {
	struct sim_inode *next, **link; /* on the tree's list */
	unsigned refs;                  /* names of both kinds, pending changes of names, whoever calls inode_ref() */
	unsigned users;                 /* visible names and open handles: without any the visible content is gone */
	bool is_dir;
	struct sim_content visible, durable;
	bool differs; /* visible from durable, perhaps */
	struct sim_change *changes, **changes_end;
	struct sim_names visible_names, durable_names;
	bool survives_in_order, survival_over; /* while a power cut is decided */
	struct sim_inode *copy;                /* while a tree is copied */
};

/* One pending change of names: from NULL = created, to NULL = unlinked. */
struct sim_name_change {
	struct sim_name_change *next;
	uint64_t number;
	struct sim_inode *inode, *from_dir, *to_dir;
	char *from, *to;
	bool chosen;
};

struct sim_tree {
	struct sim_inode *root, *inodes;
	struct sim_name_change *name_changes, **name_changes_end;
	unsigned pending;     /* changes of both kinds */
	uint64_t changes;     /* ever made */
	uint64_t used_blocks; /* of all visible contents */
};

void sim_tree_init(struct sim_tree *t);
void sim_tree_fini(struct sim_tree *t); /* nobody may hold an inode */

/* Another tree in the same state; what was in flight has completed. */
void sim_tree_copy(struct sim_tree *to, struct sim_tree *from);

struct sim_inode *sim_inode_ref(struct sim_inode *i);
void sim_inode_unref(struct sim_tree *t, struct sim_inode *i);

/* As ref/unref, and keeps the visible content readable after the last unlink. */
struct sim_inode *sim_inode_use(struct sim_inode *i);
void sim_inode_unuse(struct sim_tree *t, struct sim_inode *i);

/* ---- names: 0 or -errno as POSIX says. Paths start at the root, with or without '/'; ".." is
 * refused ---- */
int sim_tree_find(struct sim_tree *t, const char *path, struct sim_inode **ret_inode);                /* borrowed */
int sim_tree_create(struct sim_tree *t, const char *path, bool is_dir, struct sim_inode **ret_inode); /* borrowed */
int sim_tree_rename(struct sim_tree *t, const char *from, const char *to);
int sim_tree_unlink(struct sim_tree *t, const char *path);
int sim_tree_rmdir(struct sim_tree *t, const char *path);
int sim_tree_sync_dir(struct sim_tree *t, const char *path);
int sim_tree_list(struct sim_tree *t, const char *path, void (*each)(void *arg, const char *name), void *arg);

/* ---- content ---- */

/* Blocks that offset..offset+len would add to the disk. */
uint64_t sim_tree_cost(const struct sim_inode *i, uint64_t offset, uint64_t len);

/* Visible at once and pending. The change stays valid until completed and synced, or until a power
 * cut; the caller sets completed_at. */
struct sim_change *sim_tree_write(
    struct sim_tree *t, struct sim_inode *i, const void *buf, size_t len, uint64_t offset);
struct sim_change *sim_tree_truncate(struct sim_tree *t, struct sim_inode *i, uint64_t size);
struct sim_change *sim_tree_allocate(struct sim_tree *t, struct sim_inode *i, uint64_t offset, uint64_t len);
struct sim_change *sim_tree_punch(struct sim_tree *t, struct sim_inode *i, uint64_t offset, uint64_t len);

/* Changes completed by then become durable; or, after a failed sync, are forgotten: visible, clean,
 * and lost. */
void sim_tree_sync(struct sim_tree *t, struct sim_inode *i, uint64_t completed_by);
void sim_tree_forget(struct sim_tree *t, struct sim_inode *i, uint64_t completed_by);

/* Between sim_tree.c and sim_change.c: nothing is pending any more; part of what is pending becomes
 * durable. */
void sim_inode_drop_changes(struct sim_tree *t, struct sim_inode *i);
void sim_inode_copy_changes(struct sim_inode *to, const struct sim_inode *from);
void sim_inode_survive(struct sim_inode *i, enum sim_survival survival, struct sim_random *random);

/* The power is back: decide what survived, drop the rest, and show what is durable. */
void sim_tree_crash(struct sim_tree *t, enum sim_survival survival, struct sim_random *random);

/* For SIM_SURVIVE_CHOSEN: bit n of the set is the n-th oldest pending change. */
void sim_tree_choose(struct sim_tree *t, uint64_t set);

/* The newest pending change, when it is a write; else NULL. */
struct sim_change *sim_tree_newest_write(struct sim_tree *t);

/* A fingerprint of names and contents as they are visible: see sim_content_hash(). */
uint64_t sim_tree_hash(const struct sim_tree *t);

/* Numbers of the pending changes, oldest first; at most max. Returns how many there are. */
size_t sim_tree_list_pending(const struct sim_tree *t, uint64_t *ret_numbers, size_t max);

#endif
