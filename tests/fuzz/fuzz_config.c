/* SPDX-License-Identifier: Apache-2.0 */
/* holdfastd.conf, as a reload finds it. What is accepted, printed and read again must be the same. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Files of no directory: conf.d, which is looked for beside them, is not there. */
struct paper {
	int fd;
	char path[64];
};

static struct paper
paper_take(void)
{
	struct paper p = {.fd = memfd_create("holdfastd.conf", MFD_CLOEXEC)};

	if (p.fd < 0)
		abort();
	snprintf(p.path, sizeof p.path, "/proc/self/fd/%d", p.fd);
	return p;
}

static void
paper_write(const struct paper *p, const void *bytes, size_t len)
{
	if (ftruncate(p->fd, 0) < 0 || pwrite(p->fd, bytes, len, 0) != (ssize_t)len)
		abort();
}

/* Gives the text: free(). */
static char *
print(const struct config *config)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		abort();
	config_print(config, out);
	fclose(out);
	return text;
}

static void
require_same_again(const struct paper *p, const struct config *config, FILE *problems)
{
	char *said = print(config), *again;
	struct config read, merged = *config;
	config_mask restart;

	paper_write(p, said, strlen(said));
	if (config_read(p->path, &read, problems) < 0)
		abort();
	again = print(&read);
	if (strcmp(said, again) != 0 || config_merge(&read, &merged, &restart) != 0 || restart != 0)
		abort();
	free(again);
	free(said);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct paper paper = {.fd = -1};
	static FILE *problems;
	struct config config;

	if (paper.fd < 0) {
		paper = paper_take();
		problems = fopen("/dev/null", "we");
	}
	paper_write(&paper, data, size);
	if (config_read(paper.path, &config, problems) == 0)
		require_same_again(&paper, &config, problems);
	return 0;
}
