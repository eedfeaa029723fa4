/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for direct I/O. Mapped, not malloc'ed: aligned, zeroed by the kernel, given back at once.
 * Faulted in here, so that neither TLS nor the kernel's page pinning pays for it on the data path.
 */
#include "storage/disk.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

static const size_t HUGE_BYTES = 2 << 20;

static size_t
whole_pages(size_t len)
{
	return (len + DISK_ALIGN - 1) / DISK_ALIGN * DISK_ALIGN;
}

/* Map `len` bytes more than wanted at most, then give back what lies before and after the aligned
 * part. */
static char *
map_aligned(size_t len, size_t align)
{
	size_t spare = align > DISK_ALIGN ? align : 0;
	char *p = mmap(NULL, len + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t before;

	if (p == MAP_FAILED)
		return NULL;
	if (spare == 0)
		return p;
	before = (align - (uintptr_t)p % align) % align;
	if (before > 0)
		munmap(p, before);
	if (before < spare)
		munmap(p + before + len, spare - before);
	return p + before;
}

static int
fault_in(char *p, size_t len)
{
#ifdef MADV_POPULATE_WRITE
	if (madvise(p, len, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
#endif
	for (size_t i = 0; i < len; i += DISK_ALIGN) /* kernels before 5.14 */
		*(volatile char *)(p + i) = 0;
	return 0;
}

void *
buffer_alloc(size_t len)
{
	size_t bytes = whole_pages(len);
	bool huge = bytes >= HUGE_BYTES;
	char *p;

	assert(len > 0);
	p = map_aligned(bytes, huge ? HUGE_BYTES : DISK_ALIGN);
	if (p == NULL)
		return NULL;
	if (huge)
		(void)madvise(p, bytes, MADV_HUGEPAGE); /* a hint: without it the buffer is only slower */
	if (fault_in(p, bytes) < 0) {
		munmap(p, bytes);
		return NULL;
	}
	return p;
}

void
buffer_free(void *buf, size_t len)
{
	if (buf != NULL)
		munmap(buf, whole_pages(len));
}
