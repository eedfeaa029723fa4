/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/waiting.h"

#include <time.h>
#include <unistd.h>

#include "proto/common/progress.h"
#include "proto/common/units.h"

#define LOOK_EVERY_NS (NS_PER_SECOND / 4)

static enum progress_mode
progress_mode(const struct ctl *ctl)
{
	if (ctl_given(ctl, OPT_NO_PROGRESS) || !ctl_given(ctl, OPT_PROGRESS))
		return ctl_given(ctl, OPT_NO_PROGRESS) ? PROGRESS_NONE : PROGRESS_AUTO;
	return (enum progress_mode)progress_mode_parse(ctl->values[OPT_PROGRESS]);
}

static void
show(struct progress *p, bool *begun, const struct ctl *ctl, const char *title, const struct waiting *w)
{
	if (!*begun && w->total_bytes > 0) {
		progress_begin(
		    p, progress_mode(ctl), STDERR_FILENO, title, w->done_bytes, w->total_bytes, clock_monotonic_ns());
		*begun = true;
	}
	if (*begun)
		progress_update(p, w->done_bytes, clock_monotonic_ns());
}

int
wait_until_over(struct ctl *ctl, const char *title, waiting_look *look, void *arg)
{
	const struct timespec moment = {.tv_nsec = LOOK_EVERY_NS};
	struct progress progress;
	struct waiting w = {0}; /* as of the last look that succeeded */
	bool begun = false;
	int code;

	if (ctl_given(ctl, OPT_PROGRESS) && progress_mode_parse(ctl->values[OPT_PROGRESS]) < 0)
		return ctl_fail(
		    EXIT_USAGE, "--progress %s: auto, bar, plain, lines or none is wanted", ctl->values[OPT_PROGRESS]);
	for (;;) {
		struct waiting seen = w;

		code = ctl_interrupted() ? EXIT_INTERRUPTED : look(arg, ctl, &seen);
		if (code != EXIT_DONE)
			break;
		w = seen;
		if (w.is_over)
			break;
		show(&progress, &begun, ctl, title, &w);
		nanosleep(&moment, NULL); /* a signal ends it, and is seen */
	}
	if (begun)
		progress_end(&progress, w.is_over ? progress.total_bytes : w.done_bytes, clock_monotonic_ns());
	if (ctl_interrupted())
		ctl_note("no longer watched; it goes on");
	return code;
}
