/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk: counts operations, injects faults, cuts the power, and lets asynchronous
 * operations complete late. What is stored, and what of it survives, is sim_tree's.
 *
 *   start:    count, fault?  a write becomes visible and pending (bytes captured)          -->
 * flight submit:   the flight is handed over; only now may it complete complete: a read is filled,
 * a write may be made durable by syncs started from now on, a sync takes effect
 *
 * A read is filled at completion and a write's buffer is compared with what was captured, so that
 * who touches a borrowed buffer too early is caught here, not on a customer's disk. */
#include "storage/disk_sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "storage/disk_impl.h"
#include "storage/sim_random.h"
#include "storage/sim_tree.h"

enum { MAGIC_SIM = 0x53494d44, MAGIC_SIM_FILE = 0x53494d46, FAULTS_MAX = 8 };

static const uint64_t FREE_BYTES_UNLIMITED = (uint64_t)1 << 50;

struct fault {
	char kind;
	uint64_t left; /* operations of the kind until it strikes; 0 = strikes */
	bool sticky;
	enum sim_fault fault; /* SIM_FAULT_NONE: the slot is free */
};

/* An operation in flight. */
struct flight {
	struct disk_op *op;
	struct disk_file *file;
	struct sim_inode *inode;   /* used */
	struct sim_change *change; /* a write's; NULL when nothing was written */
	uint64_t started_at;
	size_t len; /* bytes to read, or captured to write */
	int res;    /* decided at the start when not 0 */
};

struct sim {
	struct disk disk;
	unsigned magic;
	struct sim_tree tree;
	struct sim_random random;
	uint64_t operations, cut_at;
	bool cut;
	struct fault faults[FAULTS_MAX];
	uint64_t struck;        /* operations that a fault met */
	const char *fault_path; /* borrowed; a part of the path that faults are confined to; NULL = none */
	struct flight *flights; /* in order of start; the first `handed` were submitted */
	size_t flights_count, flights_capacity, handed;
	uint64_t tick; /* orders completions of changes and starts of syncs */
	bool reorder;
	struct disk_file *files;
	uint64_t capacity_blocks; /* 0 = unlimited */
	void (*before)(void *arg);
	void *before_arg;
};

struct disk_file {
	unsigned magic;
	struct sim_inode *inode; /* used; NULL = stale, the machine was restarted */
	char *path;              /* as it was opened */
	bool writable;
	unsigned in_flight;
	struct disk_file *next, **link;
};

static struct sim *
sim_of(struct disk *d)
{
	struct sim *s = (struct sim *)d;

	assert(s->magic == MAGIC_SIM);
	return s;
}

static struct disk_file *
check_file(struct disk_file *f)
{
	assert(f->magic == MAGIC_SIM_FILE);
	return f;
}

/* ---- counting and faults ---- */

static enum sim_fault
strike(struct fault *f)
{
	enum sim_fault fault = f->fault;

	if (!f->sticky)
		f->fault = SIM_FAULT_NONE;
	return fault;
}

static enum sim_fault
next_fault(struct sim *s, char kind, const char *path)
{
	enum sim_fault result = SIM_FAULT_NONE;

	if (s->fault_path != NULL && strstr(path, s->fault_path) == NULL)
		return result;
	for (size_t i = 0; i < FAULTS_MAX; i++) {
		struct fault *f = &s->faults[i];

		if (f->fault == SIM_FAULT_NONE || (f->kind != kind && f->kind != '*'))
			continue;
		if (f->left > 0)
			f->left--;
		if (f->left == 0)
			result = strike(f);
	}
	s->struck += result != SIM_FAULT_NONE;
	return result;
}

static int
fault_code(enum sim_fault fault)
{
	switch (fault) {
	case SIM_FAULT_NONE: return 0;
	case SIM_FAULT_ENOSPC: return -ENOSPC;
	case SIM_FAULT_EAGAIN: return -EAGAIN;
	case SIM_FAULT_EIO:
	case SIM_FAULT_SHORT: break;
	}
	return -EIO;
}

static enum sim_fault
count_operation(struct sim *s, char kind, const char *path)
{
	if (s->before != NULL)
		s->before(s->before_arg);
	s->operations++;
	if (s->cut_at != 0 && s->operations >= s->cut_at)
		s->cut = true;
	return s->cut ? SIM_FAULT_EIO : next_fault(s, kind, path);
}

/* Before every blocking operation that is a crash point: 0 or -errno. */
static int
begin(struct sim *s, char kind, const char *path)
{
	return fault_code(count_operation(s, kind, path));
}

static int
begin_on(struct sim *s, char kind, struct disk_file *f)
{
	int r = begin(s, kind, check_file(f)->path);

	if (r < 0)
		return r;
	return check_file(f)->inode == NULL ? -ESTALE : 0;
}

/* Before what changes nothing and so is no crash point. */
static int
look(struct sim *s, struct disk_file *f)
{
	if (s->cut)
		return -EIO;
	return f != NULL && check_file(f)->inode == NULL ? -ESTALE : 0;
}

/* ---- space ---- */

static uint64_t
free_blocks(const struct sim *s)
{
	if (s->capacity_blocks == 0)
		return FREE_BYTES_UNLIMITED / SIM_BLOCK_BYTES;
	return s->capacity_blocks > s->tree.used_blocks ? s->capacity_blocks - s->tree.used_blocks : 0;
}

static int
check_room(struct sim *s, struct sim_inode *i, uint64_t offset, uint64_t len)
{
	if (offset > INT64_MAX || len > INT64_MAX - offset)
		return -EFBIG;
	if (s->capacity_blocks == 0)
		return 0;
	return sim_tree_cost(i, offset, len) > free_blocks(s) ? -ENOSPC : 0;
}

/* ---- asynchronous: start ---- */

static struct flight *
add_flight(struct sim *s, struct disk_op *op)
{
	struct flight *f;

	if (s->flights_count == s->flights_capacity) {
		s->flights_capacity = s->flights_capacity > 0 ? 2 * s->flights_capacity : 16;
		s->flights = realloc(s->flights, s->flights_capacity * sizeof *s->flights);
		assert(s->flights != NULL);
	}
	f = &s->flights[s->flights_count++];
	*f = (struct flight){.op = op, .file = op->file, .started_at = s->tick};
	if (op->file->inode != NULL)
		f->inode = sim_inode_use(op->file->inode);
	op->file->in_flight++;
	return f;
}

/* A short fault lets half of it through. */
static size_t
half_blocks(size_t len)
{
	return len / 2 / SIM_BLOCK_BYTES * SIM_BLOCK_BYTES;
}

static void
start_write(struct sim *s, struct flight *f, enum sim_fault fault)
{
	struct disk_op *op = f->op;

	f->len = fault == SIM_FAULT_NONE ? op->len : fault == SIM_FAULT_SHORT ? half_blocks(op->len) : 0;
	f->res = fault_code(fault);
	if (f->len > 0 && !f->file->writable)
		f->res = -EBADF;
	else if (f->len > 0 && f->res == 0)
		f->res = check_room(s, f->inode, op->offset, op->len);
	if (f->len > 0 && (f->res == 0 || fault == SIM_FAULT_SHORT))
		f->change = sim_tree_write(&s->tree, f->inode, op->buf, f->len, op->offset);
}

static void
start_read(struct flight *f, enum sim_fault fault)
{
	f->len = fault == SIM_FAULT_SHORT ? half_blocks(f->op->len) : f->op->len;
	f->res = fault == SIM_FAULT_SHORT ? 0 : fault_code(fault);
}

/* A failed sync is no second chance: the kernel marks the pages clean, the bytes stay readable, and
 * are lost at the cut. (Not so at the cut itself: what was pending stays pending.) */
static void
start_sync(struct sim *s, struct flight *f, enum sim_fault fault)
{
	f->started_at = s->tick++;
	f->res = fault_code(fault);
	if (fault != SIM_FAULT_NONE && !s->cut)
		sim_tree_forget(&s->tree, f->inode, f->started_at);
}

static void
start_on(struct sim *s, struct flight *f, enum sim_fault fault)
{
	switch ((enum disk_kind)f->op->kind) {
	case DISK_OP_READ: start_read(f, fault); return;
	case DISK_OP_WRITE: start_write(s, f, fault); return;
	case DISK_OP_SYNC: start_sync(s, f, fault); return;
	}
}

static char
letter_of(const struct disk_op *op)
{
	return op->kind == DISK_OP_READ ? 'r' : op->kind == DISK_OP_WRITE ? 'w' : 's';
}

static void
sim_start(struct disk *d, struct disk_op *op)
{
	struct sim *s = sim_of(d);
	struct flight *f;
	enum sim_fault fault;

	check_file(op->file);
	fault = count_operation(s, letter_of(op), op->file->path);
	f = add_flight(s, op);
	if (f->inode == NULL)
		f->res = -ESTALE;
	else
		start_on(s, f, fault);
}

/* ---- asynchronous: complete ---- */

static void
check_buffer(const struct flight *f)
{
	for (size_t i = 0; i < f->change->pages_count; i++)
		assert(memcmp(f->change->pages[i]->bytes, f->op->buf + i * SIM_BLOCK_BYTES, SIM_BLOCK_BYTES) == 0 &&
		       "the buffer of a write changed while the disk borrowed it");
}

static int
complete(struct sim *s, struct flight *f)
{
	if (f->change != NULL) {
		check_buffer(f);
		f->change->completed_at = ++s->tick;
	}
	if (s->cut)
		return -EIO;
	if (f->res < 0)
		return f->res;
	if (f->op->kind == DISK_OP_READ)
		return (int)sim_content_read(&f->inode->visible, f->op->buf, f->len, f->op->offset);
	if (f->op->kind == DISK_OP_SYNC)
		sim_tree_sync(&s->tree, f->inode, f->started_at);
	return 0;
}

/* The n-th flight ends. */
static void
land(struct sim *s, size_t n)
{
	struct flight f = s->flights[n];

	f.op->res = complete(s, &f);
	s->flights_count--;
	s->handed--;
	memmove(&s->flights[n], &s->flights[n + 1], (s->flights_count - n) * sizeof f);
	f.file->in_flight--;
	if (f.inode != NULL)
		sim_inode_unuse(&s->tree, f.inode);
	disk_op_finish(f.op);
}

static void
land_next(struct sim *s)
{
	land(s, s->reorder ? (size_t)sim_random_below(&s->random, s->handed) : 0);
}

static void
sim_submit(struct disk *d)
{
	struct sim *s = sim_of(d);

	s->handed = s->flights_count;
}

static int
sim_drain(struct disk *d)
{
	struct sim *s = sim_of(d);
	size_t n = s->handed;
	int landed = 0;

	if (s->reorder && n > 0)
		n = 1 + (size_t)sim_random_below(&s->random, n);
	for (; n > 0 && s->handed > 0; n--, landed++)
		land_next(s);
	return landed;
}

static int
sim_wait(struct disk *d, struct disk_op *op)
{
	struct sim *s = sim_of(d);

	while (!op->finished) {
		sim_submit(d);
		assert(s->handed > 0); /* else op was never started, or its machine was restarted */
		land_next(s);
	}
	return op->res;
}

static int
sim_register_buffers(struct disk *d, const struct iovec *buffers, unsigned count)
{
	return 0;
}

static int
sim_fd(struct disk *d)
{
	return -1;
}

/* ---- blocking: files ---- */

static struct disk_file *
file_create(struct sim *s, struct sim_inode *i, const char *path, bool writable)
{
	struct disk_file *f = calloc(1, sizeof *f);

	assert(f != NULL);
	f->magic = MAGIC_SIM_FILE;
	f->inode = sim_inode_use(i);
	f->path = strdup(path);
	assert(f->path != NULL);
	f->writable = writable;
	f->link = &s->files;
	f->next = s->files;
	if (f->next != NULL)
		f->next->link = &f->next;
	s->files = f;
	return f;
}

static int
sim_open(struct disk *d, const char *path, unsigned flags, struct disk_file **ret_file)
{
	struct sim *s = sim_of(d);
	struct sim_inode *i;
	int r = begin(s, 'o', path);

	if (r < 0)
		return r;
	if (flags & DISK_CREATE)
		r = sim_tree_create(&s->tree, path, false, &i);
	else
		r = sim_tree_find(&s->tree, path, &i);
	if (r < 0)
		return r;
	if (i->is_dir)
		return -EISDIR;
	*ret_file = file_create(s, i, path, (flags & DISK_WRITE) != 0);
	return 0;
}

/* The handle no longer reaches anything. */
static void
detach(struct sim *s, struct disk_file *f)
{
	if (f->inode == NULL)
		return;
	sim_inode_unuse(&s->tree, f->inode);
	f->inode = NULL;
}

static void
sim_close(struct disk *d, struct disk_file *f)
{
	struct sim *s = sim_of(d);

	check_file(f);
	assert(f->in_flight == 0);
	detach(s, f);
	*f->link = f->next;
	if (f->next != NULL)
		f->next->link = f->link;
	f->magic = 0;
	free(f->path);
	free(f);
}

static int
sim_size(struct disk *d, struct disk_file *f, uint64_t *ret_bytes)
{
	int r = look(sim_of(d), f);

	if (r == 0)
		*ret_bytes = f->inode->visible.size;
	return r;
}

/* A blocking change has completed when the call returns. */
static void
completed_now(struct sim *s, struct sim_change *c)
{
	c->completed_at = ++s->tick;
}

static int
sim_truncate(struct disk *d, struct disk_file *f, uint64_t bytes)
{
	struct sim *s = sim_of(d);
	int r = begin_on(s, 't', f);

	if (r < 0)
		return r;
	if (!f->writable)
		return -EINVAL;
	if (bytes > INT64_MAX)
		return -EFBIG;
	completed_now(s, sim_tree_truncate(&s->tree, f->inode, bytes));
	return 0;
}

static int
sim_allocate(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len)
{
	struct sim *s = sim_of(d);
	int r = begin_on(s, 'a', f);

	if (r < 0)
		return r;
	if (!f->writable)
		return -EBADF;
	if (len == 0)
		return -EINVAL;
	r = check_room(s, f->inode, offset, len);
	if (r == 0)
		completed_now(s, sim_tree_allocate(&s->tree, f->inode, offset, len));
	return r;
}

static int
sim_punch(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len)
{
	struct sim *s = sim_of(d);
	int r = begin_on(s, 'p', f);

	if (r < 0)
		return r;
	if (!f->writable)
		return -EBADF;
	if (len == 0)
		return -EINVAL;
	if (offset > INT64_MAX || len > INT64_MAX - offset)
		return -EFBIG;
	completed_now(s, sim_tree_punch(&s->tree, f->inode, offset, len));
	return 0;
}

static int
sim_next_data(struct disk *d, struct disk_file *f, uint64_t from, uint64_t *ret_offset)
{
	int r = look(sim_of(d), f);

	if (r == 0)
		*ret_offset = sim_content_next_data(&f->inode->visible, from);
	return r;
}

/* ---- blocking: names ---- */

static int
sim_mkdir(struct disk *d, const char *path)
{
	struct sim *s = sim_of(d);
	struct sim_inode *i;
	int r = begin(s, 'm', path);

	return r < 0 ? r : sim_tree_create(&s->tree, path, true, &i);
}

static int
sim_rename(struct disk *d, const char *from, const char *to)
{
	struct sim *s = sim_of(d);
	int r = begin(s, 'n', to);

	return r < 0 ? r : sim_tree_rename(&s->tree, from, to);
}

static int
sim_unlink(struct disk *d, const char *path)
{
	struct sim *s = sim_of(d);
	int r = begin(s, 'u', path);

	return r < 0 ? r : sim_tree_unlink(&s->tree, path);
}

static int
sim_rmdir(struct disk *d, const char *path)
{
	struct sim *s = sim_of(d);
	int r = begin(s, 'u', path);

	return r < 0 ? r : sim_tree_rmdir(&s->tree, path);
}

static int
sim_sync_dir(struct disk *d, const char *path)
{
	struct sim *s = sim_of(d);
	int r = begin(s, 'd', path);

	return r < 0 ? r : sim_tree_sync_dir(&s->tree, path);
}

static int
sim_list(struct disk *d, const char *path, void (*each)(void *arg, const char *name), void *arg)
{
	struct sim *s = sim_of(d);
	int r = look(s, NULL);

	return r < 0 ? r : sim_tree_list(&s->tree, path, each, arg);
}

static int
sim_free_bytes(struct disk *d, const char *path, uint64_t *ret_bytes)
{
	struct sim *s = sim_of(d);
	struct sim_inode *i;
	int r = look(s, NULL);

	if (r == 0)
		r = sim_tree_find(&s->tree, path, &i);
	if (r == 0)
		*ret_bytes = free_blocks(s) * SIM_BLOCK_BYTES;
	return r;
}

/* ---- life ---- */

static void
drop_flights(struct sim *s)
{
	/* Their ops may be gone by now, with the program that died. */
	for (size_t n = 0; n < s->flights_count; n++) {
		struct flight *f = &s->flights[n];

		f->file->in_flight--;
		if (f->inode != NULL)
			sim_inode_unuse(&s->tree, f->inode);
	}
	s->flights_count = s->handed = 0;
}

static void
sim_destroy(struct disk *d)
{
	struct sim *s = sim_of(d);

	assert(s->flights_count == 0);
	for (struct disk_file *f = s->files, *next; f != NULL; f = next) {
		assert(f->inode == NULL); /* left open: only a power cut excuses that */
		next = f->next;
		free(f->path);
		free(f);
	}
	sim_tree_fini(&s->tree);
	free(s->flights);
	s->magic = 0;
	free(s);
}

static const struct disk_ops sim_ops = {
    .register_buffers = sim_register_buffers,
    .fd = sim_fd,
    .submit = sim_submit,
    .drain = sim_drain,
    .wait = sim_wait,
    .destroy = sim_destroy,
    .start = sim_start,
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .truncate = sim_truncate,
    .allocate = sim_allocate,
    .punch = sim_punch,
    .next_data = sim_next_data,
    .mkdir = sim_mkdir,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .rmdir = sim_rmdir,
    .sync_dir = sim_sync_dir,
    .list = sim_list,
    .free_bytes = sim_free_bytes,
};

int
disk_sim_create(uint64_t seed, struct disk **ret_disk)
{
	struct sim *s = calloc(1, sizeof *s);

	if (s == NULL)
		return -ENOMEM;
	s->disk.ops = &sim_ops;
	s->magic = MAGIC_SIM;
	s->random.state = seed;
	s->tick = 1;
	sim_tree_init(&s->tree);
	*ret_disk = &s->disk;
	return 0;
}

uint64_t
disk_sim_operations(struct disk *d)
{
	return sim_of(d)->operations;
}

void
disk_sim_cut_at(struct disk *d, uint64_t n)
{
	struct sim *s = sim_of(d);

	s->cut_at = n > 0 ? s->operations + n : 0;
}

bool
disk_sim_is_cut(struct disk *d)
{
	return sim_of(d)->cut;
}

static void
forget_process(struct sim *s)
{
	drop_flights(s);
	for (struct disk_file *f = s->files; f != NULL; f = f->next)
		detach(s, f);
	memset(s->faults, 0, sizeof s->faults);
	s->fault_path = NULL;
	s->cut_at = 0;
	s->cut = false;
}

void
disk_sim_restart(struct disk *d, enum sim_survival survival, uint64_t seed)
{
	struct sim *s = sim_of(d);
	struct sim_random random = {seed};

	forget_process(s);
	if (survival == SIM_SURVIVE_CHOSEN)
		sim_tree_choose(&s->tree, seed);
	if (survival == SIM_SURVIVE_HEAD && sim_tree_newest_write(&s->tree) != NULL)
		sim_tree_newest_write(&s->tree)->head = seed;
	sim_tree_crash(&s->tree, survival, &random);
}

void
disk_sim_revive(struct disk *d)
{
	struct sim *s = sim_of(d);

	for (size_t n = 0; n < s->flights_count; n++)
		if (s->flights[n].change != NULL)
			completed_now(s, s->flights[n].change);
	forget_process(s);
}

unsigned
disk_sim_pending(struct disk *d)
{
	return sim_of(d)->tree.pending;
}

uint64_t
disk_sim_pending_since(struct disk *d, uint64_t since, uint64_t *ret_changes)
{
	struct sim *s = sim_of(d);
	uint64_t numbers[64], set = 0;
	size_t count = sim_tree_list_pending(&s->tree, numbers, 64);

	for (size_t n = 0; n < count && n < 64; n++)
		if (numbers[n] > since)
			set |= (uint64_t)1 << n;
	*ret_changes = s->tree.changes;
	return set;
}

uint64_t
disk_sim_newest_sectors(struct disk *d)
{
	const struct sim_change *c = sim_tree_newest_write(&sim_of(d)->tree);

	return c != NULL ? c->pages_count * SIM_SECTORS_PER_BLOCK : 0;
}

uint64_t
disk_sim_hash(struct disk *d)
{
	return sim_tree_hash(&sim_of(d)->tree);
}

int
disk_sim_clone(struct disk *d, struct disk **ret_disk)
{
	struct sim *from = sim_of(d), *s = calloc(1, sizeof *s);

	if (s == NULL)
		return -ENOMEM;
	s->disk.ops = &sim_ops;
	s->magic = MAGIC_SIM;
	s->random = from->random;
	s->tick = from->tick;
	s->reorder = from->reorder;
	s->capacity_blocks = from->capacity_blocks;
	sim_tree_copy(&s->tree, &from->tree);
	*ret_disk = &s->disk;
	return 0;
}

void
disk_sim_watch(struct disk *d, void (*before)(void *arg), void *arg)
{
	sim_of(d)->before = before;
	sim_of(d)->before_arg = arg;
}

static void
forget_faults(struct sim *s, char kind)
{
	for (size_t i = 0; i < FAULTS_MAX; i++) {
		if (s->faults[i].kind == kind || kind == '*')
			s->faults[i].fault = SIM_FAULT_NONE;
	}
}

void
disk_sim_fail(struct disk *d, char kind, uint64_t nth, bool sticky, enum sim_fault fault)
{
	struct sim *s = sim_of(d);
	size_t i = 0;

	assert(strchr("rwsoatpnudm*", kind) != NULL && kind != '\0');
	if (fault == SIM_FAULT_NONE) {
		forget_faults(s, kind);
		return;
	}
	assert(nth > 0);
	while (i < FAULTS_MAX && s->faults[i].fault != SIM_FAULT_NONE)
		i++;
	assert(i < FAULTS_MAX);
	s->faults[i] = (struct fault){kind, nth, sticky, fault};
}

void
disk_sim_confine_faults(struct disk *d, const char *part)
{
	sim_of(d)->fault_path = part;
}

uint64_t
disk_sim_struck(struct disk *d)
{
	return sim_of(d)->struck;
}

void
disk_sim_set_capacity(struct disk *d, uint64_t bytes)
{
	sim_of(d)->capacity_blocks = bytes > 0 && bytes < SIM_BLOCK_BYTES ? 1 : bytes / SIM_BLOCK_BYTES;
}

/* ---- bit rot ---- */

/* Pages are shared, with clones too: a copy takes its place. NULL is a hole, of which rot makes data. */
static struct sim_page *
flip_page(const struct sim_page *p, uint64_t offset, unsigned bit)
{
	struct sim_page *flipped = sim_page_create(p != NULL ? p->bytes : NULL);

	flipped->bytes[offset % SIM_BLOCK_BYTES] ^= (unsigned char)(1u << bit);
	return flipped;
}

static void
flip_content(struct sim_content *c, uint64_t offset, unsigned bit)
{
	uint64_t block = offset / SIM_BLOCK_BYTES;
	struct sim_page *p;

	if (offset >= c->size)
		return;
	p = flip_page(sim_content_page(c, block), offset, bit);
	sim_content_put(c, block, p);
	sim_page_unref(p);
}

static void
flip_change(struct sim_change *c, uint64_t offset, unsigned bit)
{
	struct sim_page **p, *old;

	if (c->kind != SIM_WRITE || c->completed_at == 0 || offset < c->offset || offset >= c->offset + c->len)
		return;
	p = &c->pages[(offset - c->offset) / SIM_BLOCK_BYTES];
	old = *p;
	*p = flip_page(old, offset, bit);
	sim_page_unref(old);
}

int
disk_sim_flip(struct disk *d, const char *path, uint64_t offset, unsigned bit)
{
	struct sim *s = sim_of(d);
	struct sim_inode *i;
	int r = sim_tree_find(&s->tree, path, &i);

	assert(bit < 8);
	if (r < 0)
		return r;
	if (offset >= i->visible.size)
		return -ERANGE;
	s->tree.used_blocks -= i->visible.blocks;
	flip_content(&i->visible, offset, bit);
	s->tree.used_blocks += i->visible.blocks;
	flip_content(&i->durable, offset, bit);
	for (struct sim_change *c = i->changes; c != NULL; c = c->next)
		flip_change(c, offset, bit);
	return 0;
}

void
disk_sim_set_reorder(struct disk *d, bool on)
{
	sim_of(d)->reorder = on;
}
