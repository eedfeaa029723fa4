/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite_faults.h: what the system tells SQLite's own VFS when it reads or writes a file: as it is, or an error. For
 * databases on real files; those of the simulated disk have catalog_vfs. Included by one file of a program. */
#ifndef HF_TESTS_SQLITE_FAULTS_H
#define HF_TESTS_SQLITE_FAULTS_H

#include <errno.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

static _Atomic int sqlite_read_errno, sqlite_write_errno; /* 0: all is well */
static _Atomic int sqlite_reads_good;                     /* so many reads go well before the first that fails */
static _Atomic bool sqlite_disk_full;                     /* a file can be written as far as it goes, and no further */

static int
read_errno(void)
{
	if (sqlite_read_errno == 0 || sqlite_reads_good-- > 0)
		return 0;
	return sqlite_read_errno;
}

static ssize_t
faulty_read(int fd, void *bytes, size_t len)
{
	errno = read_errno();
	return errno != 0 ? -1 : read(fd, bytes, len);
}

static ssize_t
faulty_pread(int fd, void *bytes, size_t len, off_t offset)
{
	errno = read_errno();
	return errno != 0 ? -1 : pread(fd, bytes, len, offset);
}

static int
write_errno(int fd, off_t end)
{
	struct stat st;

	if (sqlite_disk_full && fstat(fd, &st) == 0 && end > st.st_size)
		return ENOSPC;
	return sqlite_write_errno;
}

static ssize_t
faulty_write(int fd, const void *bytes, size_t len)
{
	errno = write_errno(fd, lseek(fd, 0, SEEK_CUR) + (off_t)len);
	return errno != 0 ? -1 : write(fd, bytes, len);
}

static ssize_t
faulty_pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
	errno = write_errno(fd, offset + (off_t)len);
	return errno != 0 ? -1 : pwrite(fd, bytes, len, offset);
}

/* Before a database is opened; lasts as long as the process. */
static void
sqlite_faults_install(void)
{
	static const struct {
		const char *name;
		sqlite3_syscall_ptr call;
	} calls[] = {
	    {"read", (sqlite3_syscall_ptr)faulty_read},
	    {"pread", (sqlite3_syscall_ptr)faulty_pread},
	    {"pread64", (sqlite3_syscall_ptr)faulty_pread},
	    {"write", (sqlite3_syscall_ptr)faulty_write},
	    {"pwrite", (sqlite3_syscall_ptr)faulty_pwrite},
	    {"pwrite64", (sqlite3_syscall_ptr)faulty_pwrite},
	};
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);

	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
		(void)vfs->xSetSystemCall(vfs, calls[i].name, calls[i].call);
}

#endif
