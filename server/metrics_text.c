/* SPDX-License-Identifier: Apache-2.0 */
#include "server/metrics_text.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "proto/common/text.h"
#include "proto/common/units.h"

bool
metrics_are_open(const char *accept)
{
	return strstr(accept, "application/openmetrics-text") != NULL;
}

const char *
metrics_content_type(bool open)
{
	return open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
		    : "text/plain; version=0.0.4; charset=utf-8";
}

/* How much of the name the suffix of its type takes. */
static size_t
suffix_len(const struct metric_family *f)
{
	if (strcmp(f->type, "counter") == 0)
		return strlen("_total");
	return strcmp(f->type, "info") == 0 ? strlen("_info") : 0;
}

void
metrics_begin(struct evbuffer *out, bool open, const struct metric_family *f)
{
	int len = (int)(strlen(f->name) - (open ? suffix_len(f) : 0));
	const char *type = !open && strcmp(f->type, "info") == 0 ? "gauge" : f->type; /* 0.0.4 does not know it */

	evbuffer_add_printf(out, "# HELP %.*s %s\n# TYPE %.*s %s\n", len, f->name, f->help, len, f->name, type);
}

/* Most are whole numbers, and these cost a tenth to print. */
static const char *
format_value(double value, char *buf, size_t size)
{
	if (value == rint(value) && fabs(value) < 1e15)
		snprintf(buf, size, "%" PRId64, (int64_t)value);
	else
		snprintf(buf, size, "%.17g", value);
	return buf;
}

void
metrics_add(struct evbuffer *out, const char *name, const char *labels, double value)
{
	bool braces = labels[0] != '\0';
	char text[32];

	if (isfinite(value)) /* else it is not known */
		evbuffer_add_printf(out, "%s%s%s%s %s\n", name, braces ? "{" : "", labels, braces ? "}" : "",
		    format_value(value, text, sizeof text));
}

void
metrics_add_histogram(struct evbuffer *out, const char *name, const char *labels, const struct histogram *h)
{
	const char *comma = labels[0] != '\0' ? "," : "";
	uint64_t count = 0;

	for (int i = 0; i < HISTOGRAM_BOUNDS; i++) {
		count += h->counts[i];
		evbuffer_add_printf(out, "%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", name, labels, comma,
		    (double)histogram_bounds_ns[i] / NS_PER_SECOND, count);
	}
	count += h->counts[HISTOGRAM_BOUNDS];
	evbuffer_add_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n%s_sum{%s} %.17g\n%s_count{%s} %" PRIu64 "\n",
	    name, labels, comma, count, name, labels, (double)h->sum_ns / NS_PER_SECOND, name, labels, count);
}

const char *
metrics_escape(const char *text, char *buf, size_t size)
{
	char *plain = text_copy(text);
	size_t n = 0, len;

	for (const char *p = plain; (len = text_character(p, SIZE_MAX)) > 0 && n + len + 1 < size; p += len) {
		if (*p == '"' || *p == '\\')
			buf[n++] = '\\';
		memcpy(buf + n, p, len);
		n += len;
	}
	buf[n] = '\0';
	free(plain);
	return buf;
}

void
metrics_end(struct evbuffer *out, bool open)
{
	if (open)
		evbuffer_add_printf(out, "# EOF\n");
}

/* ---- the process ---- */

static double
timeval_seconds(const struct timeval *tv)
{
	return (double)tv->tv_sec + (double)tv->tv_usec / 1e6;
}

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return timeval_seconds(&u.ru_utime) + timeval_seconds(&u.ru_stime);
}

/* Word `index` of /proc/self/statm, in bytes. */
static double
memory_bytes(int index)
{
	double pages[2] = {NAN, NAN};
	FILE *f = fopen("/proc/self/statm", "re");

	if (f == NULL || fscanf(f, "%lf %lf", &pages[0], &pages[1]) != 2)
		pages[index] = NAN;
	if (f != NULL)
		fclose(f);
	return pages[index] * (double)sysconf(_SC_PAGESIZE);
}

static double
virtual_bytes(void)
{
	return memory_bytes(0);
}

static double
resident_bytes(void)
{
	return memory_bytes(1);
}

static double
open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	double count = -3; /* ".", "..", and this one */

	if (dir == NULL)
		return NAN;
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

static double
open_files_max(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur == RLIM_INFINITY ? INFINITY : (double)limit.rlim_cur;
}

void
metrics_add_process(struct evbuffer *out, bool open)
{
	static const struct {
		struct metric_family family;
		double (*value)(void);
	} all[] = {
	    {{"process_cpu_seconds_total", "counter", "Processor time that holdfastd has used"}, cpu_seconds},
	    {{"process_resident_memory_bytes", "gauge", "Memory that holdfastd has in use"}, resident_bytes},
	    {{"process_virtual_memory_bytes", "gauge", "Address space of holdfastd"}, virtual_bytes},
	    {{"process_open_fds", "gauge", "Files and sockets that holdfastd has open"}, open_files},
	    {{"process_max_fds", "gauge", "Files and sockets that it may have open"}, open_files_max},
	};

	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
		metrics_begin(out, open, &all[i].family);
		metrics_add(out, all[i].family.name, "", all[i].value());
	}
}
