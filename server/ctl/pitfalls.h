/* SPDX-License-Identifier: Apache-2.0 */
/* pitfalls.h: what is known to go wrong under a staging server: kernels, file systems, limits. Pure functions, for
 * doctor. */
#ifndef HF_CTL_PITFALLS_H
#define HF_CTL_PITFALLS_H

#include <stdbool.h>
#include <stdint.h>

/* Does this kernel (uname's release and version) lose direct writes on ext4? 6.1.64 and 6.1.65 do. */
bool pitfall_kernel(const char *release, const char *version);

struct pitfall_file_system {
	long type; /* statfs's f_type */
	const char *name;
	bool is_bad; /* else a warning */
	const char *why;
};

/* What is wrong with a file system as a home of staged data; NULL: nothing known. Static memory. */
const struct pitfall_file_system *pitfall_file_system(long type);

/* The soft limit in a line of /proc/PID/limits that begins with name; UINT64_MAX: unlimited. False: another line. */
bool pitfall_limit(const char *line, const char *name, uint64_t *ret_limit);

#endif
