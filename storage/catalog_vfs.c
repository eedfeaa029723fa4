/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite reads and writes at any byte, the disk whole blocks: a write that begins or ends inside a
 * block reads the block first and writes it whole. Its other bytes stay as they were even if the
 * block is torn, so POWERSAFE_OVERWRITE holds as it does on SQLite's own VFS.
 *
 * That leaves a file longer than SQLite wrote it, by zeros up to a block. The true size is kept in
 * memory and put right before each sync and at close; a cut in between leaves the zeros, which
 * neither a WAL nor a journal takes for content. */
#include "storage/catalog_vfs.h"

#include <assert.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC_VFS = 0x43564653, MAGIC_VFS_FILE = 0x43564646 };
enum { BOUNCE_BYTES = 64 * 1024, PATH_BYTES_MAX = 512 };

struct vfs_file;

struct vfs {
	sqlite3_vfs sqlite; /* pAppData points back here */
	unsigned magic;
	struct disk *disk;
	sqlite3_vfs *system; /* clock, dice, temporary files */
	struct vfs_file *files;
	char *bounce; /* one for all: calls do not overlap */
	struct {
		uint64_t left; /* calls, with the one that fails; 0 = none does */
		int result;
		bool sticky;
		uint64_t struck;
	} fault;
	char name[];
};

struct vfs_file {
	sqlite3_file sqlite;
	unsigned magic;
	struct vfs *vfs;
	struct disk_file *file;
	const char *path; /* SQLite's, valid until xClose */
	uint64_t size;    /* as SQLite sees it */
	bool is_longer;   /* the file on the disk, by zeros */
	bool is_new;      /* its name is not durable yet, and SQLite counts on xSync for that */
	int lock;
	struct vfs_file *next, **link;
};

static struct vfs *
vfs_of(sqlite3_vfs *sqlite)
{
	struct vfs *v = sqlite->pAppData;

	assert(v->magic == MAGIC_VFS);
	return v;
}

static struct vfs_file *
file_of(sqlite3_file *sqlite)
{
	struct vfs_file *f = (struct vfs_file *)sqlite;

	assert(f->magic == MAGIC_VFS_FILE);
	return f;
}

static int
sync_parent(struct vfs *v, const char *path)
{
	char dir[PATH_BYTES_MAX];
	const char *slash = strrchr(path, '/');
	size_t len = slash != NULL ? (size_t)(slash - path) : 0;

	if (slash == NULL)
		return disk_sync_dir(v->disk, ".");
	if (len == 0)
		return disk_sync_dir(v->disk, "/");
	assert(len < sizeof dir);
	memcpy(dir, path, len);
	dir[len] = '\0';
	return disk_sync_dir(v->disk, dir);
}

/* ---- failing on purpose ---- */

/* The answer to this call, if it is not what the disk says. Only a lock can be busy. */
static int
strike(struct vfs *v, bool locking)
{
	if (v->fault.left == 0 || (v->fault.result == SQLITE_BUSY) != locking)
		return SQLITE_OK;
	if (v->fault.left > 1) {
		v->fault.left--;
		return SQLITE_OK;
	}
	if (!v->fault.sticky)
		v->fault.left = 0;
	v->fault.struck++;
	return v->fault.result;
}

void
catalog_vfs_fail(const char *name, int result, uint64_t nth, bool sticky)
{
	struct vfs *v = vfs_of(sqlite3_vfs_find(name));

	v->fault.left = nth;
	v->fault.result = result;
	v->fault.sticky = sticky;
	v->fault.struck = 0;
}

uint64_t
catalog_vfs_struck(const char *name)
{
	return vfs_of(sqlite3_vfs_find(name))->fault.struck;
}

/* ---- reading and writing ---- */

static size_t
whole_blocks(size_t bytes)
{
	return (bytes + DISK_ALIGN - 1) / DISK_ALIGN * DISK_ALIGN;
}

/* Fill to[0..len) from the block-aligned offset; zeros beyond the end of the file. */
static int
read_blocks(struct vfs_file *f, char *to, size_t len, uint64_t offset)
{
	struct disk_op op = {0};
	int got;

	if (offset >= f->size) {
		memset(to, 0, len);
		return 0;
	}
	disk_read(f->vfs->disk, &op, f->file, to, len, offset);
	got = disk_wait(f->vfs->disk, &op);
	if (got < 0)
		return got;
	memset(to + got, 0, len - (size_t)got);
	return 0;
}

/* As much of a transfer as fits the bounce buffer; head: where it begins in the first block. */
static size_t
fit_bounce(size_t left, size_t head)
{
	return left < BOUNCE_BYTES - head ? left : BOUNCE_BYTES - head;
}

static int
file_read(sqlite3_file *sqlite, void *buf, int len, sqlite3_int64 offset)
{
	struct vfs_file *f = file_of(sqlite);
	int struck = strike(f->vfs, false);
	size_t done = 0;

	if (struck != SQLITE_OK)
		return struck;
	while (done < (size_t)len) {
		uint64_t at = (uint64_t)offset + done;
		size_t head = at % DISK_ALIGN, n = fit_bounce((size_t)len - done, head);

		if (read_blocks(f, f->vfs->bounce, whole_blocks(head + n), at - head) < 0)
			return SQLITE_IOERR_READ;
		memcpy((char *)buf + done, f->vfs->bounce + head, n);
		done += n;
	}
	return (uint64_t)offset + (size_t)len > f->size ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

/* Bring what the blocks hold before `head` and after head + n into the bounce buffer. */
static int
read_edges(struct vfs_file *f, uint64_t begin, size_t head, size_t n)
{
	char *bounce = f->vfs->bounce;
	size_t span = whole_blocks(head + n), last = span - DISK_ALIGN;
	int r = 0;

	if (head != 0)
		r = read_blocks(f, bounce, DISK_ALIGN, begin);
	if (r == 0 && head + n != span && (head == 0 || last != 0))
		r = read_blocks(f, bounce + last, DISK_ALIGN, begin + last);
	return r;
}

static int
write_piece(struct vfs_file *f, const char *buf, size_t n, uint64_t offset)
{
	size_t head = offset % DISK_ALIGN, span = whole_blocks(head + n);
	uint64_t begin = offset - head;
	int r = read_edges(f, begin, head, n);

	if (r < 0)
		return r;
	memcpy(f->vfs->bounce + head, buf, n);
	r = disk_write_now(f->vfs->disk, f->file, f->vfs->bounce, span, begin);
	if (r < 0)
		return r;
	if (offset + n > f->size) {
		f->size = offset + n;
		f->is_longer = begin + span > f->size;
	}
	return 0;
}

static int
file_write(sqlite3_file *sqlite, const void *buf, int len, sqlite3_int64 offset)
{
	struct vfs_file *f = file_of(sqlite);
	int struck = strike(f->vfs, false);
	size_t done = 0;

	if (struck != SQLITE_OK)
		return struck;
	while (done < (size_t)len) {
		uint64_t at = (uint64_t)offset + done;
		size_t n = fit_bounce((size_t)len - done, at % DISK_ALIGN);
		int r = write_piece(f, (const char *)buf + done, n, at);

		if (r < 0)
			return r == -ENOSPC ? SQLITE_FULL : SQLITE_IOERR_WRITE;
		done += n;
	}
	return SQLITE_OK;
}

static int
file_truncate(sqlite3_file *sqlite, sqlite3_int64 size)
{
	struct vfs_file *f = file_of(sqlite);
	int struck = strike(f->vfs, false);

	if (struck != SQLITE_OK)
		return struck;
	if (disk_truncate(f->vfs->disk, f->file, (uint64_t)size) < 0)
		return SQLITE_IOERR_TRUNCATE;
	f->size = (uint64_t)size;
	f->is_longer = false;
	return SQLITE_OK;
}

static int
put_size_right(struct vfs_file *f)
{
	int r = f->is_longer ? disk_truncate(f->vfs->disk, f->file, f->size) : 0;

	if (r == 0)
		f->is_longer = false;
	return r;
}

static int
file_sync(sqlite3_file *sqlite, int flags)
{
	struct vfs_file *f = file_of(sqlite);
	int struck = strike(f->vfs, false);

	if (struck != SQLITE_OK)
		return struck;
	if (put_size_right(f) < 0 || disk_sync_now(f->vfs->disk, f->file) < 0)
		return SQLITE_IOERR_FSYNC;
	if (f->is_new && sync_parent(f->vfs, f->path) < 0)
		return SQLITE_IOERR_DIR_FSYNC;
	f->is_new = false;
	return SQLITE_OK;
}

static int
file_size(sqlite3_file *sqlite, sqlite3_int64 *ret_size)
{
	*ret_size = (sqlite3_int64)file_of(sqlite)->size;
	return SQLITE_OK;
}

/* ---- locks: between the connections of this VFS. The daemon's own lock keeps other processes out
 * ---- */

/* The highest lock others may hold while one takes `lock`. */
static int
tolerated_beside(int lock)
{
	if (lock == SQLITE_LOCK_SHARED)
		return SQLITE_LOCK_RESERVED;
	return lock == SQLITE_LOCK_RESERVED ? SQLITE_LOCK_SHARED : SQLITE_LOCK_NONE;
}

static int
highest_other(const struct vfs_file *f)
{
	int highest = SQLITE_LOCK_NONE;

	for (const struct vfs_file *o = f->vfs->files; o != NULL; o = o->next) {
		if (o != f && strcmp(o->path, f->path) == 0 && o->lock > highest)
			highest = o->lock;
	}
	return highest;
}

static int
file_lock(sqlite3_file *sqlite, int lock)
{
	struct vfs_file *f = file_of(sqlite);
	int struck;

	if (f->lock >= lock)
		return SQLITE_OK;
	struck = strike(f->vfs, true);
	if (struck != SQLITE_OK)
		return struck;
	if (highest_other(f) > tolerated_beside(lock))
		return SQLITE_BUSY;
	f->lock = lock;
	return SQLITE_OK;
}

static int
file_unlock(sqlite3_file *sqlite, int lock)
{
	struct vfs_file *f = file_of(sqlite);

	if (f->lock > lock)
		f->lock = lock;
	return SQLITE_OK;
}

static int
file_check_reserved(sqlite3_file *sqlite, int *ret_reserved)
{
	struct vfs_file *f = file_of(sqlite);

	*ret_reserved = f->lock >= SQLITE_LOCK_RESERVED || highest_other(f) >= SQLITE_LOCK_RESERVED;
	return SQLITE_OK;
}

static int
file_control(sqlite3_file *sqlite, int op, void *arg)
{
	return SQLITE_NOTFOUND;
}

static int
file_sector_size(sqlite3_file *sqlite)
{
	return DISK_ALIGN;
}

static int
file_characteristics(sqlite3_file *sqlite)
{
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int
file_close(sqlite3_file *sqlite)
{
	struct vfs_file *f = file_of(sqlite);

	(void)put_size_right(f); /* zeros at the end do no harm */
	disk_close(f->vfs->disk, f->file);
	*f->link = f->next;
	if (f->next != NULL)
		f->next->link = f->link;
	f->magic = 0;
	return SQLITE_OK;
}

static const sqlite3_io_methods file_methods = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
};

/* ---- names ---- */

static int
open_or_create(struct vfs_file *f, int flags, bool *ret_created)
{
	struct disk *d = f->vfs->disk;
	unsigned how = flags & SQLITE_OPEN_READWRITE ? DISK_WRITE : DISK_READ;
	bool exclusive = (flags & SQLITE_OPEN_EXCLUSIVE) != 0;
	int r = exclusive ? -ENOENT : disk_open(d, f->path, how, &f->file);

	*ret_created = false;
	if (r == -ENOENT && (flags & SQLITE_OPEN_CREATE) != 0) {
		r = disk_open(d, f->path, DISK_WRITE | DISK_CREATE, &f->file);
		*ret_created = r == 0;
	}
	return r;
}

static void
link_file(struct vfs_file *f)
{
	struct vfs *v = f->vfs;

	f->link = &v->files;
	f->next = v->files;
	if (f->next != NULL)
		f->next->link = &f->next;
	v->files = f;
}

static int
vfs_open(sqlite3_vfs *sqlite, const char *path, sqlite3_file *file, int flags, int *ret_flags)
{
	struct vfs *v = vfs_of(sqlite);
	struct vfs_file *f = (struct vfs_file *)file;
	bool created;

	if (path == NULL)
		return v->system->xOpen(v->system, path, file, flags, ret_flags);
	memset(f, 0, sizeof *f);
	f->magic = MAGIC_VFS_FILE;
	f->vfs = v;
	f->path = path;
	if (open_or_create(f, flags, &created) < 0)
		return SQLITE_CANTOPEN;
	if (disk_size(v->disk, f->file, &f->size) < 0) {
		disk_close(v->disk, f->file);
		return SQLITE_CANTOPEN;
	}
	/* As SQLite's own VFS: it vouches for the name of a journal, not for that of a new
	 * database. */
	f->is_new = created && (flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL));
	link_file(f);
	f->sqlite.pMethods = &file_methods;
	if (ret_flags != NULL)
		*ret_flags = flags;
	return SQLITE_OK;
}

static int
vfs_delete(sqlite3_vfs *sqlite, const char *path, int sync_dir)
{
	struct vfs *v = vfs_of(sqlite);
	int r = disk_unlink(v->disk, path);

	if (r == -ENOENT)
		return SQLITE_IOERR_DELETE_NOENT;
	if (r < 0)
		return SQLITE_IOERR_DELETE;
	return sync_dir && sync_parent(v, path) < 0 ? SQLITE_IOERR_DIR_FSYNC : SQLITE_OK;
}

struct wanted_name {
	const char *name;
	bool found;
};

static void
compare_name(void *arg, const char *name)
{
	struct wanted_name *w = arg;

	if (strcmp(name, w->name) == 0)
		w->found = true;
}

/* Looks into the directory instead of opening: that would be one more crash point without a crash
 * to find. */
static int
vfs_access(sqlite3_vfs *sqlite, const char *path, int flags, int *ret_yes)
{
	struct vfs *v = vfs_of(sqlite);
	const char *slash = strrchr(path, '/');
	struct wanted_name wanted = {.name = slash != NULL ? slash + 1 : path};
	char dir[PATH_BYTES_MAX] = ".";
	int r;

	if (slash != NULL) {
		memcpy(dir, path, (size_t)(slash - path) + 1);
		dir[slash - path + 1] = '\0';
	}
	r = disk_list(v->disk, dir, compare_name, &wanted);
	if (r < 0 && r != -ENOENT)
		return SQLITE_IOERR_ACCESS;
	*ret_yes = wanted.found;
	return SQLITE_OK;
}

static int
vfs_full_path(sqlite3_vfs *sqlite, const char *path, int bytes, char *ret_path)
{
	size_t len = strlen(path);

	if (len >= (size_t)bytes || len >= PATH_BYTES_MAX - 16) /* room for "-journal" */
		return SQLITE_CANTOPEN;
	memcpy(ret_path, path, len + 1);
	return SQLITE_OK;
}

/* ---- what no disk is needed for ---- */

static int
vfs_randomness(sqlite3_vfs *sqlite, int bytes, char *ret_bytes)
{
	sqlite3_vfs *system = vfs_of(sqlite)->system;

	return system->xRandomness(system, bytes, ret_bytes);
}

static int
vfs_sleep(sqlite3_vfs *sqlite, int us)
{
	sqlite3_vfs *system = vfs_of(sqlite)->system;

	return system->xSleep(system, us);
}

static int
vfs_time(sqlite3_vfs *sqlite, double *ret_days)
{
	sqlite3_vfs *system = vfs_of(sqlite)->system;

	return system->xCurrentTime(system, ret_days);
}

static int
vfs_last_error(sqlite3_vfs *sqlite, int bytes, char *ret_text)
{
	return 0;
}

/* ---- life ---- */

static void
fill_vfs(struct vfs *v)
{
	int system_bytes = v->system->szOsFile, our_bytes = (int)sizeof(struct vfs_file);

	v->sqlite = (sqlite3_vfs){
	    .iVersion = 1,
	    .szOsFile = system_bytes > our_bytes ? system_bytes : our_bytes,
	    .mxPathname = PATH_BYTES_MAX,
	    .zName = v->name,
	    .pAppData = v,
	    .xOpen = vfs_open,
	    .xDelete = vfs_delete,
	    .xAccess = vfs_access,
	    .xFullPathname = vfs_full_path,
	    .xRandomness = vfs_randomness,
	    .xSleep = vfs_sleep,
	    .xCurrentTime = vfs_time,
	    .xGetLastError = vfs_last_error,
	};
}

int
catalog_vfs_register(struct disk *d, const char *name)
{
	struct vfs *v = calloc(1, sizeof *v + strlen(name) + 1);

	assert(sqlite3_vfs_find(name) == NULL);
	if (v == NULL)
		return -ENOMEM;
	v->magic = MAGIC_VFS;
	v->disk = d;
	v->system = sqlite3_vfs_find(NULL);
	v->bounce = buffer_alloc(BOUNCE_BYTES);
	strcpy(v->name, name);
	fill_vfs(v);
	if (v->bounce == NULL || sqlite3_vfs_register(&v->sqlite, 0) != SQLITE_OK) {
		buffer_free(v->bounce, BOUNCE_BYTES);
		free(v);
		return -ENOMEM;
	}
	return 0;
}

void
catalog_vfs_unregister(const char *name)
{
	sqlite3_vfs *sqlite = sqlite3_vfs_find(name);
	struct vfs *v;

	assert(sqlite != NULL);
	v = vfs_of(sqlite);
	assert(v->files == NULL);
	(void)sqlite3_vfs_unregister(sqlite); /* fails for what is not registered alone */
	buffer_free(v->bounce, BOUNCE_BYTES);
	v->magic = 0;
	free(v);
}
