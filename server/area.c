/* SPDX-License-Identifier: Apache-2.0 */
#include "server/area.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "proto/common/status.h"

#define FOLD_BATCH_BYTES (UINT64_C(64) << 20)

struct area {
	char path[512], reserve_path[544];
	struct area_settings settings;
	pthread_mutex_t measuring; /* held while the file is looked at and changed; so are the next */
	bool uncountable;          /* this file system preallocates nothing: the reserve is only counted */
	int64_t starved_until_ns;  /* by the clock of area_measure(); 0 = never was */
	struct trend trend;
	pthread_mutex_t lock; /* of all that follows */
	bool starved;         /* maintenance found no space since the last measurement */
	struct area_facts facts;
	uint64_t need_told, need_before; /* the largest since the last measurement, and before it */
};

/* ---- judging ---- */

uint64_t
area_reserve(const struct area_settings *settings, uint64_t total_bytes)
{
	uint64_t run_bytes = settings->segment_bytes / 64;
	uint64_t wanted = settings->reserve_bytes;

	if (wanted == 0)
		wanted = FOLD_BATCH_BYTES + settings->segment_bytes + run_bytes;
	return wanted < total_bytes / 20 ? wanted : total_bytes / 20;
}

/* So much stays free beside the file: a commit need not wait until it is cut. */
static uint64_t
reserve_margin(uint64_t reserve_bytes)
{
	return reserve_bytes / 8;
}

static uint64_t
larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void
area_judge(struct area_facts *facts, unsigned warning_percent)
{
	uint64_t reserve = facts->reserve_bytes, total = facts->total_bytes;
	const uint64_t limits[3] = {
	    larger(reserve, total / 50), larger(reserve / 2, total / 100), reserve_margin(reserve)};
	const uint64_t warning = total / 100 * warning_percent;

	facts->room_bytes =
	    (int64_t)(facts->free_bytes + facts->held_bytes) - (int64_t)(facts->reserve_bytes + facts->extra_bytes);
	facts->level = space_judge(facts->room_bytes, limits, facts->level);
	facts->low = facts->room_bytes < (int64_t)(facts->low ? warning + total / 100 : warning);
}

int64_t
area_full_in_ns(const struct area_facts *facts)
{
	double days;

	if (!facts->growth_known || facts->growth_bytes_per_day <= 0)
		return -1;
	if (facts->room_bytes <= 0)
		return 0;
	days = (double)facts->room_bytes / (double)facts->growth_bytes_per_day;
	return days > 36500 ? -1 : (int64_t)(days * 86400 * (double)NS_PER_SECOND);
}

/* ---- the file ---- */

static uint64_t
held_bytes(const struct area *a)
{
	struct stat st;

	return stat(a->reserve_path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* Cut, not removed: the name needs no new room later. Synced, for Btrfs gives nothing back before its transaction is
 * through. */
static int
cut(const struct area *a, uint64_t bytes)
{
	int fd = open(a->reserve_path, O_WRONLY | O_CLOEXEC);
	int r = fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 && syncfs(fd) == 0 ? 0 : -errno;

	if (fd >= 0)
		close(fd);
	return r;
}

/* A quarter at a time, until half of it is free: whatever else is writing to the file system
 * takes what it finds, and should not find all of it. */
static int
release(const struct area *a, const struct area_facts *f)
{
	uint64_t quarter = f->reserve_bytes / 4, left = 0;

	if (f->held_bytes > f->reserve_bytes)
		left = f->reserve_bytes - quarter;
	else if (f->held_bytes > quarter)
		left = f->held_bytes - quarter;
	return cut(a, left);
}

static int
hold(struct area *a, uint64_t bytes)
{
	int fd = open(a->reserve_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = fallocate(fd, 0, 0, (off_t)bytes) < 0 ? -errno : 0;
	if (r == 0)
		r = ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0; /* it may have been larger */
	close(fd);
	a->uncountable |= r == -EOPNOTSUPP;
	if (r < 0)
		(void)cut(a, 0);
	return r;
}

/* For so long what is measured is not believed: Btrfs ends its transactions every 30 s. */
#define STARVED_NS (30 * NS_PER_SECOND)

static bool
take_starved(struct area *a, int64_t now_ns)
{
	bool starved;

	pthread_mutex_lock(&a->lock);
	starved = a->starved;
	a->starved = false;
	pthread_mutex_unlock(&a->lock);
	if (starved)
		a->starved_until_ns = now_ns + STARVED_NS;
	return starved;
}

/* Is there room for the file, and for going on beside it? Then it is made; when there is none left, it goes. */
static bool
settle_reserve(struct area *a, const struct area_facts *f, bool starved)
{
	if (starved || (f->level == SPACE_FULL && f->free_bytes < f->reserve_bytes / 2))
		return f->held_bytes > 0 && release(a, f) == 0;
	if (f->level == SPACE_FULL)
		return false;
	if (a->uncountable || f->held_bytes >= f->reserve_bytes)
		return false;
	return hold(a, f->reserve_bytes) == 0;
}

/* ---- measuring ---- */

static uint64_t
extra_bytes(struct area *a, uint64_t reserve_bytes)
{
	uint64_t need;

	pthread_mutex_lock(&a->lock);
	need = larger(a->need_told, a->need_before);
	pthread_mutex_unlock(&a->lock);
	return need > reserve_bytes ? need - reserve_bytes : 0;
}

static int
look(struct area *a, struct area_facts *f, int64_t now_ns)
{
	struct statvfs v;

	if (statvfs(a->path, &v) < 0)
		return -errno;
	f->total_bytes = (uint64_t)v.f_blocks * v.f_frsize;
	f->free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	f->held_bytes = held_bytes(a);
	f->reserve_bytes = area_reserve(&a->settings, f->total_bytes);
	f->extra_bytes = extra_bytes(a, f->reserve_bytes);
	area_judge(f, a->settings.warning_percent);
	if (now_ns < a->starved_until_ns)
		f->level = SPACE_FULL;
	return 0;
}

static void
note_growth(struct area *a, struct area_facts *f, int64_t now_ns)
{
	uint64_t used = f->total_bytes - f->free_bytes - f->held_bytes;

	trend_add(&a->trend, now_ns, used);
	f->growth_known = trend_get(&a->trend, now_ns, used, &f->growth_bytes_per_day, &f->growth_measured_ns);
}

static int
measure(struct area *a, int64_t now_ns)
{
	struct area_facts f;
	bool starved;
	int r;

	area_get(a, &f);
	f.measured_ns = now_ns;
	starved = take_starved(a, now_ns);
	r = look(a, &f, now_ns);
	if (r == 0 && settle_reserve(a, &f, starved))
		r = look(a, &f, now_ns);
	if (r < 0)
		return r;
	note_growth(a, &f, now_ns);
	pthread_mutex_lock(&a->lock);
	a->facts = f;
	a->need_before = a->need_told;
	a->need_told = 0;
	pthread_mutex_unlock(&a->lock);
	return 0;
}

int
area_measure(struct area *a, int64_t now_ns)
{
	int r;

	pthread_mutex_lock(&a->measuring);
	r = measure(a, now_ns);
	pthread_mutex_unlock(&a->measuring);
	return r;
}

bool
area_make_room(struct area *a, int64_t now_ns)
{
	struct area_facts was, is;

	area_get(a, &was);
	area_tell_full(a);
	if (area_measure(a, now_ns) < 0)
		return false;
	area_get(a, &is);
	return is.held_bytes < was.held_bytes;
}

/* ---- life ---- */

int
area_create(const char *path, const struct area_settings *settings, struct area **ret_area, struct hf_error *err)
{
	struct area *a = calloc(1, sizeof *a);
	int r;

	if (a == NULL)
		return hf_error_set(err, -ENOMEM, "%s", path);
	pthread_mutex_init(&a->measuring, NULL);
	pthread_mutex_init(&a->lock, NULL);
	a->settings = *settings;
	snprintf(a->path, sizeof a->path, "%s", path);
	snprintf(a->reserve_path, sizeof a->reserve_path, "%s/reserve", path);
	r = area_measure(a, clock_monotonic_ns());
	if (r < 0) {
		area_destroy(a);
		return hf_error_set(err, r, "%s", path);
	}
	*ret_area = a;
	return 0;
}

void
area_destroy(struct area *a)
{
	if (a == NULL)
		return;
	pthread_mutex_destroy(&a->lock);
	pthread_mutex_destroy(&a->measuring);
	free(a);
}

/* ---- facts ---- */

void
area_tell_full(struct area *a)
{
	pthread_mutex_lock(&a->lock);
	a->starved = true;
	pthread_mutex_unlock(&a->lock);
}

const char *
area_path(const struct area *a)
{
	return a->path;
}

void
area_tell_need(struct area *a, uint64_t bytes)
{
	pthread_mutex_lock(&a->lock);
	a->need_told = larger(a->need_told, bytes);
	pthread_mutex_unlock(&a->lock);
}

void
area_get(struct area *a, struct area_facts *ret_facts)
{
	pthread_mutex_lock(&a->lock);
	*ret_facts = a->facts;
	pthread_mutex_unlock(&a->lock);
}

struct space
area_space(const struct area_facts *f)
{
	uint64_t kept = reserve_margin(f->reserve_bytes);
	uint64_t held = f->held_bytes < f->reserve_bytes ? f->held_bytes : f->reserve_bytes;

	return (struct space){
	    .level = f->level,
	    .room_bytes = f->room_bytes > (int64_t)kept ? (uint64_t)f->room_bytes - kept : 0,
	    .reserve_bytes = f->reserve_bytes + f->extra_bytes + kept - held,
	    .measured_ns = f->measured_ns,
	};
}
