/* SPDX-License-Identifier: Apache-2.0 */
/* job_equal.c: that volumes were compared with the source's disks and found to be the same, kept in the catalog. */
#include "storage/job_impl.h"

#include <stdlib.h>

struct store_job *
store_note_equal(struct store *s, const uint32_t *volumes, size_t count, int64_t equal_ns)
{
	struct store_job *job = job_create(s, JOB_EQUAL);

	if (job == NULL)
		return NULL;
	job->numbers = calloc(count + 1, sizeof *job->numbers);
	if (job->numbers == NULL) {
		store_job_destroy(job);
		return NULL;
	}
	for (size_t i = 0; i < count; i++)
		job->numbers[job->number_count++] = volumes[i];
	job->equal_ns = equal_ns;
	return job;
}

static int
run_equal(struct store_job *job, struct disk *d, struct run_cache *cache)
{
	struct hf_error err;
	int r = catalog_set_equal(job->store->catalog, job->numbers, job->number_count, job->equal_ns, &err);

	(void)d;
	(void)cache;
	return r < 0 ? job_say(job, r, "%s", err.text) : 0;
}

static void
finish_equal(struct store *s, struct store_job *job)
{
	for (size_t i = 0; job->status == 0 && i < job->number_count; i++) {
		struct volume *v = store_find_volume(s, (uint32_t)job->numbers[i]);

		if (v != NULL)
			v->info.equal_ns = job->equal_ns;
	}
}

const struct job_class equal_job = {
    .name = "note equality",
    .asked = true,
    .run = run_equal,
    .finish = finish_equal,
};
