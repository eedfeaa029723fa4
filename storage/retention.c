/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/retention.h"
#include "storage/plant.h"

static int64_t
smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* later - earlier; INT64_MAX where that does not fit, 0 where the clock went back. */
static int64_t
time_between(int64_t earlier_ns, int64_t later_ns)
{
	int64_t ns;

	if (later_ns <= earlier_ns)
		return 0;
	return __builtin_sub_overflow(later_ns, earlier_ns, &ns) ? INT64_MAX : ns;
}

void
retention_recall(struct retention *r, int64_t running_ns, int64_t point_ns)
{
	r->begun = true;
	r->running_ns = running_ns;
	r->point_ns = point_ns;
}

void
retention_recount(struct retention *r, int64_t point_ns)
{
	if (r->begun)
		r->running_ns += smaller(time_between(r->point_ns, point_ns), RETENTION_RECOUNT_MAX_NS);
	retention_recall(r, r->begun ? r->running_ns : point_ns, point_ns);
}

void
retention_believe(struct retention *r, int64_t clock_ns, int64_t monotonic_ns)
{
	r->clock_ns = clock_ns;
	r->monotonic_ns = monotonic_ns;
	r->drift_ns = 0;
}

static int64_t
credit_at(const struct retention *r, int64_t monotonic_ns)
{
	int64_t passed = r->connected || PLANTED(48) ? time_between(r->counted_ns, monotonic_ns) : 0;

	return smaller(r->credit_ns + smaller(passed, RETENTION_STEP_MAX_NS), RETENTION_STEP_MAX_NS);
}

static void
count_credit(struct retention *r, int64_t monotonic_ns)
{
	r->credit_ns = credit_at(r, monotonic_ns);
	r->counted_ns = monotonic_ns;
}

void
retention_connect(struct retention *r, int64_t monotonic_ns)
{
	count_credit(r, monotonic_ns);
	r->connected = true;
}

void
retention_disconnect(struct retention *r, int64_t monotonic_ns)
{
	count_credit(r, monotonic_ns);
	r->connected = false;
}

static int64_t
step_to(const struct retention *r, int64_t time_ns, int64_t monotonic_ns)
{
	if (PLANTED(49))
		return time_between(r->point_ns, time_ns);
	return smaller(time_between(r->point_ns, time_ns), credit_at(r, monotonic_ns));
}

int64_t
retention_at(const struct retention *r, int64_t time_ns, int64_t monotonic_ns)
{
	return r->begun ? r->running_ns + step_to(r, time_ns, monotonic_ns) : time_ns;
}

void
retention_move(struct retention *r, int64_t point_ns, int64_t monotonic_ns)
{
	int64_t step = step_to(r, point_ns, monotonic_ns);

	count_credit(r, monotonic_ns);
	if (!r->begun) { /* what was before the first point is nobody's age */
		r->credit_ns = 0;
		retention_recall(r, point_ns, point_ns);
		return;
	}
	r->credit_ns -= step;
	retention_recall(r, r->running_ns + step, point_ns);
}

void
retention_watch(struct retention *r, int64_t clock_ns, int64_t monotonic_ns)
{
	r->drift_ns = (clock_ns - r->clock_ns) - (monotonic_ns - r->monotonic_ns);
}

bool
retention_drifted(const struct retention *r)
{
	return r->drift_ns > RETENTION_DRIFT_MAX_NS || r->drift_ns < -RETENTION_DRIFT_MAX_NS;
}

bool
retention_stopped(const struct retention *r)
{
	return (r->frozen_ns != 0 && !PLANTED(50)) || retention_drifted(r);
}
