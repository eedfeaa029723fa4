/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_volume.c: every staging file's size, and its digest tree: parents against children, up to the fill frontier. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/status.h"
#include "storage/fsck_impl.h"
#include "storage/scrub.h"

enum { ZONE_BLOCKS = SUM_ZONE_BLOCKS, LEVELS = 4 };

/* ---- the tree ---- */

struct tree { /* of one zone, as stored; what lies beyond the frontier is zeros */
	uint64_t level0[ZONE_BLOCKS], level1[ZONE_BLOCKS / 16], level2[ZONE_BLOCKS / 256], level3[1];
};

static uint64_t *
nodes_of(struct tree *t, int level)
{
	return level == 0 ? t->level0 : level == 1 ? t->level1 : level == 2 ? t->level2 : t->level3;
}

static int
read_zone(struct fsck *k, const struct volume *v, uint64_t zone, struct tree *t)
{
	uint64_t frontier = v->info.frontier_blocks, first = zone * ZONE_BLOCKS;
	int r = 0;

	for (int level = 0; level < LEVELS && r == 0; level++) {
		uint64_t under = digest_level_blocks(level);

		r = sum_read(k->d, v->sum->file, level, first / under, ZONE_BLOCKS / under, nodes_of(t, level));
	}
	for (uint64_t b = 0; b < ZONE_BLOCKS; b++)
		if (first + b >= frontier)
			t->level0[b] = 0;
	return r;
}

static void
check_nodes(struct fsck *k, const struct volume *v, uint64_t zone, struct tree *t, int level)
{
	const struct view_volume *vv = view_find_volume(k->view, v->info.volume);
	uint64_t under = digest_level_blocks(level), n = level == 3 ? 256 : 16;
	const uint64_t *children = nodes_of(t, level - 1), *nodes = nodes_of(t, level);

	for (uint64_t i = 0; i < ZONE_BLOCKS / under; i++) {
		uint64_t first = zone * ZONE_BLOCKS + i * under;

		if (digest_node(k->store->digest_seed, children + i * n, n) != nodes[i] &&
		    scrub_node_counts(k->view, k->d, k->cache, vv, level, first / under))
			fsck_say(k, FSCK_DIGEST_TREE, v->sum->path,
			    "the node of level %d over blocks %" PRIu64 " to %" PRIu64 " does not match its children",
			    level, first, first + under - 1);
	}
}

static int
check_tree(struct fsck *k, const struct volume *v)
{
	uint64_t zones = (v->info.frontier_blocks + ZONE_BLOCKS - 1) / ZONE_BLOCKS;
	struct tree *t = malloc(sizeof *t);
	int r = t == NULL ? -ENOMEM : 0;

	for (uint64_t zone = 0; zone < zones && r == 0; zone++) {
		r = read_zone(k, v, zone, t);
		for (int level = 1; level < LEVELS && r == 0; level++)
			check_nodes(k, v, zone, t, level);
		if (r == 0)
			r = fsck_go_on(k);
	}
	free(t);
	return r;
}

/* ---- the files ---- */

static int
check_size(struct fsck *k, const struct volume *v)
{
	uint64_t bytes, wanted = volume_blocks(v) * BLOCK_BYTES;
	int r = disk_size(k->d, v->img->file, &bytes);

	if (r < 0)
		return r;
	if (bytes < wanted)
		fsck_say(k, FSCK_STAGING_SIZE, v->img->path, "%" PRIu64 " bytes instead of %" PRIu64, bytes, wanted);
	return 0;
}

struct pair {
	struct fsck *k;
	int status;
};

static int
check_header(struct fsck *k, const char *path)
{
	struct sum_header h;
	struct disk_file *f;
	int r = disk_open(k->d, path, DISK_READ, &f);

	if (r < 0)
		return r;
	r = sum_header_read(k->d, f, &h);
	disk_close(k->d, f);
	if (r == -HF_ECORRUPT)
		fsck_say(k, FSCK_DIGEST_HEADER, path, "its checksum does not match, or it is of something else");
	return r == -HF_ECORRUPT ? 0 : r;
}

static bool
is_there(struct fsck *k, const char *path)
{
	struct disk_file *f = NULL;
	int r = disk_open(k->d, path, DISK_READ, &f);

	if (r == 0)
		disk_close(k->d, f);
	return r != -ENOENT;
}

/* The catalog does not know it: its making was cut off, and recovery removes what there is of it. */
static bool
is_unmade(const struct fsck *k, const char *name)
{
	for (size_t i = 0; i < k->row_count; i++)
		if (strncmp(k->rows[i].id.text, name, strlen(k->rows[i].id.text)) == 0)
			return false;
	return k->has_catalog;
}

/* One of vol-....img and vol-....sum: the other must be there as well. */
static void
each_file(void *arg, const char *name)
{
	struct pair *p = arg;
	size_t len = strlen(name);
	bool img = len > 4 && strcmp(name + len - 4, ".img") == 0, sum = len > 4 && strcmp(name + len - 4, ".sum") == 0;
	char path[PATH_MAX_BYTES], other[PATH_MAX_BYTES];

	if (p->status < 0 || strncmp(name, "vol-", 4) != 0 || (!img && !sum) || is_unmade(p->k, name))
		return;
	snprintf(path, sizeof path, "%s/%s", p->k->o->dir, name);
	snprintf(other, sizeof other, "%s/%.*s.%s", p->k->o->dir, (int)len - 4, name, img ? "sum" : "img");
	if (!is_there(p->k, other))
		fsck_say(p->k, FSCK_STAGING_MISSING, other, "it is missing, %s is there", name);
	if (sum)
		p->status = check_header(p->k, path);
}

int
fsck_volumes(struct fsck *k)
{
	struct pair p = {.k = k};
	int r = disk_list(k->d, k->o->dir, each_file, &p);

	if (r == 0)
		r = p.status;
	for (uint32_t i = 0; k->store != NULL && i < k->store->volume_count && r == 0; i++) {
		k->stats.volumes++;
		r = check_size(k, k->store->volumes[i]);
		if (r == 0)
			r = check_tree(k, k->store->volumes[i]);
	}
	return r < 0 ? hf_error_set(k->err, r, "%s", k->o->dir) : 0;
}
