/* SPDX-License-Identifier: Apache-2.0 */
/* scratch.h: a directory of a test's own. It lies in $TMPDIR, which tests/run.py gives each program and expects to find
 * empty afterwards; else in /var/tmp, because /tmp may be a tmpfs, which does no O_DIRECT. */
#ifndef HF_TESTS_LIB_SCRATCH_H
#define HF_TESTS_LIB_SCRATCH_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* Makes it and writes its path to ret_path (size bytes; 64 are enough). Aborts if there is none to be had. */
static inline void
scratch_make(char *ret_path, size_t size, const char *name)
{
	const char *top = getenv("TMPDIR");
	int length = snprintf(ret_path, size, "%s/%s.XXXXXX", top != NULL ? top : "/var/tmp", name);

	assert(length > 0 && (size_t)length < size);
	if (mkdtemp(ret_path) == NULL) {
		perror(ret_path);
		abort();
	}
}

/* It, and all that is in it. 0, or not. */
static inline int
scratch_remove(const char *path)
{
	char command[300];

	snprintf(command, sizeof command, "rm -rf '%s'", path);
	return system(command);
}

#endif
