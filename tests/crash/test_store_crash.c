/* SPDX-License-Identifier: Apache-2.0 */
/* A store's life (declaration, first fill, journal, checkpoints, runs, points, fold) on the simulated disk, with the
 * power cut at every disk operation of it in turn. After each cut whatever was not synced survives in part, torn; the
 * store must come back with every acknowledged frame and every listed point exact, go on where it stopped, and be exact
 * again at the end. Or the process alone is killed, and the power goes while the next one recovers. Odd seeds are wild:
 * see store_rig.h.
 *
 * usage: test_store_crash [SEED [STEPS [STRIDE]]]     prints TAP, and last `N crash states, N violations` */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/plant.h"
#include "tests/lib/store_rig.h"

enum { STEPS = 250, SEEDS = 4, LIFE_AFTER = 12, STRIDE = 2 };

#ifdef PLANTS
int planted;
#endif

enum end {        /* of a life */
	END_SOME, /* the power goes: a random part of what was not synced survives */
	END_NONE, /* nothing of it */
	END_ALL,  /* all of it */
	END_KILL, /* the process alone is killed, and goes on; the power goes while it recovers, or soon after */
	END_COUNT,
};

static const char *const end_names[END_COUNT] = {
    "a random part survives", "nothing survives", "everything survives", "a kill, then nothing survives"};

static uint64_t states, violations;

static bool
goes_on(const struct rig *g)
{
	return !disk_sim_is_cut(g->disk) && g->fault[0] == '\0' && g->store != NULL && (g->wild || !g->failed);
}

static void
run_script(struct rig *g, unsigned steps)
{
	for (unsigned i = 0; i < steps && goes_on(g); i++)
		rig_step(g);
}

/* Finish: everything sent is durable, all jobs are done. */
static void
run_out(struct rig *g)
{
	do {
		while (g->failed && goes_on(g))
			rig_step(g);
		if (goes_on(g))
			rig_settle(g);
	} while (g->wild && g->failed && goes_on(g));
	if (!g->failed && goes_on(g))
		rig_run_jobs(g, 100);
}

static bool
violated(struct rig *g, uint64_t seed, enum end end, uint64_t cut, const char *when)
{
	if (g->fault[0] == '\0' && !g->failed)
		return false;
	violations++;
	printf("# VIOLATION seed=%" PRIu64 " end=%d cut=%" PRIu64 " %s: %s\n", seed, (int)end, cut, when,
	    g->failed ? "the store failed" : g->fault);
	return true;
}

static void
end_life(struct rig *g, enum end end, uint64_t luck)
{
	rig_close(g);
	g->fault[0] = '\0';
	if (end == END_KILL)
		disk_sim_revive(g->disk);
	else
		disk_sim_restart(g->disk, (enum sim_survival)end, luck);
}

/* A second end while the first is recovered from: always after a kill, for only that shows what recovery wrongly relied
 * on; else now and then. */
static void
end_again(struct rig *g, enum end end, uint64_t luck)
{
	enum end last = end == END_KILL ? END_NONE : end;

	if (end != END_KILL && luck % 4 != 0)
		return;
	disk_sim_cut_at(g->disk, 1 + luck % 61);
	if (rig_open(g) == 0 && rig_check_recovered(g)) {
		rig_resend(g);
		rig_settle(g);
	}
	if (!disk_sim_is_cut(g->disk) && g->fault[0] != '\0')
		return; /* the violation is told by the caller */
	end_life(g, last, luck * 7);
}

/* One life with a cut at operation `cut`; false when the script ended before it. */
static bool
try_cut(uint64_t seed, uint64_t cut, unsigned steps, enum end end)
{
	struct rig *g = calloc(1, sizeof *g);
	bool was_cut;

	if (g == NULL)
		abort();
	rig_create(g, seed, seed % 2 == 1);
	disk_sim_cut_at(g->disk, cut);
	if (rig_open(g) == 0)
		run_script(g, steps);
	run_out(g);
	was_cut = disk_sim_is_cut(g->disk);
	if (was_cut) {
		states++;
		end_life(g, end, seed * 1000003 + cut);
		end_again(g, end, seed * 31 + cut);
		if (g->fault[0] == '\0' && rig_open(g) == 0 && rig_check_recovered(g) && rig_check(g)) {
			rig_resend(g);
			rig_settle(g);
			run_script(g, LIFE_AFTER);
			run_out(g);
		}
		if (g->store != NULL && g->fault[0] == '\0')
			rig_check(g);
		(void)violated(g, seed, end, cut, "after the cut");
	}
	rig_stop(g);
	free(g);
	return was_cut;
}

/* Without a cut: the script must reach everything it is meant to reach, and be right. */
static bool
try_whole(uint64_t seed, unsigned steps)
{
	struct rig *g = calloc(1, sizeof *g);
	bool ok;

	if (g == NULL)
		abort();
	rig_create(g, seed, seed % 2 == 1);
	if (rig_open(g) == 0)
		run_script(g, steps);
	run_out(g);
	if (g->fault[0] == '\0')
		rig_check(g);
	ok = !violated(g, seed, END_SOME, 0, "without a cut");
	printf("# seed %" PRIu64 "%s: %" PRIu64 " frames, %u streams, %u declarations, %" PRIu64
	       " disk operations, %u runs, %u folds, %u times reopened\n",
	    seed, g->wild ? " (wild)" : "", g->sent, g->streams + 1, g->declarations, disk_sim_operations(g->disk),
	    g->runs_built, g->folds, g->reopened);
	if (ok && (g->folds == 0 || g->runs_built == 0)) {
		printf("# the script folded or built nothing: it proves too little\n");
		ok = false;
	}
	rig_stop(g);
	free(g);
	return ok;
}

int
main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1, seeds = argc > 1 ? 1 : SEEDS;
	unsigned steps = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : STEPS;
	uint64_t stride = argc > 3 ? strtoull(argv[3], NULL, 0) : STRIDE;
	int test = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	plant_from_environment();
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		bool ok = try_whole(seed, steps);

		printf("%s %d - whole script of seed %" PRIu64 "\n", ok ? "ok" : "not ok", ++test, seed);
		for (int end = 0; end < END_COUNT; end++) {
			uint64_t before = violations;

			for (uint64_t cut = 1 + (uint64_t)end % stride; try_cut(seed, cut, steps, (enum end)end);
			     cut += stride)
				if (violations > before + 4)
					break;
			printf("%s %d - cut at every operation, %s, seed %" PRIu64 "\n",
			    violations == before ? "ok" : "not ok", ++test, end_names[end], seed);
		}
	}
	printf("1..%d\n", test);
	printf("%" PRIu64 " crash states, %" PRIu64 " violations\n", states, violations);
	return violations > 0 ? 1 : 0;
}
