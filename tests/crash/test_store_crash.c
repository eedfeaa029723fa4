/* SPDX-License-Identifier: Apache-2.0 */
/* A store's life (first fill, journal, checkpoints, runs, points, fold) on the simulated disk, with the power cut at every
 * disk operation of it in turn. After each cut whatever was not synced survives in part, torn; the store must come back with every
 * acknowledged frame and every listed point exact, go on where it stopped, and be exact again at the end.
 *
 * usage: test_store_crash [SEED [STEPS]]     prints TAP, and last `N crash states, N violations` */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/plant.h"
#include "tests/lib/store_rig.h"

enum { STEPS = 150, SEEDS = 3 };

#ifdef PLANTS
int planted;
#endif

static uint64_t states, violations;

static void
run_script(struct rig *g, unsigned steps)
{
	for (unsigned i = 0; i < steps && !disk_sim_is_cut(g->disk) && !g->failed && g->fault[0] == '\0'; i++)
		rig_step(g);
}

/* Finish: everything sent is durable, all jobs are done. */
static void
run_out(struct rig *g)
{
	rig_settle(g);
	if (!g->failed && !disk_sim_is_cut(g->disk))
		rig_run_jobs(g, 100);
}

static bool
violated(struct rig *g, uint64_t seed, uint64_t cut, const char *when)
{
	if (g->fault[0] == '\0' && !g->failed)
		return false;
	violations++;
	printf("# VIOLATION seed=%" PRIu64 " cut=%" PRIu64 " %s: %s\n", seed, cut, when, g->failed ? "the store failed" : g->fault);
	return true;
}

/* The frames that were lost are sent again, as an agent does; then the script goes on. */
static void
resume(struct rig *g, unsigned steps)
{
	uint64_t sent = g->sent;

	for (uint64_t i = g->acked + 1; i <= sent && g->fault[0] == '\0'; i++)
		rig_send(g, i);
	rig_settle(g);
	run_script(g, steps);
	run_out(g);
}

/* One life with a cut at operation `cut`; false when the script ended before it. */
static bool
try_cut(uint64_t seed, uint64_t cut, unsigned steps, enum sim_survival survival)
{
	struct rig *g = calloc(1, sizeof *g);
	bool was_cut;

	if (g == NULL)
		abort();
	if (!rig_start(g, seed))
		abort();
	disk_sim_cut_at(g->disk, cut);
	run_script(g, steps);
	run_out(g);
	was_cut = disk_sim_is_cut(g->disk);
	rig_close(g);
	if (was_cut) {
		states++;
		g->fault[0] = '\0';
		disk_sim_restart(g->disk, survival, seed * 1000003 + cut);
		if (rig_open(g) == 0 && rig_check_recovered(g) && rig_check(g))
			resume(g, 10);
		if (g->store != NULL && g->fault[0] == '\0')
			rig_check(g);
		(void)violated(g, seed, cut, "after the cut");
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

	if (g == NULL || !rig_start(g, seed))
		abort();
	run_script(g, steps);
	run_out(g);
	rig_check(g);
	ok = !violated(g, seed, 0, "without a cut");
	printf("# seed %" PRIu64 ": %" PRIu64 " frames, %" PRIu64 " disk operations, %u runs, %u folds\n", seed, g->sent,
	    disk_sim_operations(g->disk), g->runs_built, g->folds);
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
	int test = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	plant_from_environment();
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		static const char *const names[] = {"a random part survives", "nothing survives", "everything survives"};
		bool ok = try_whole(seed, steps);

		printf("%s %d - whole script of seed %" PRIu64 "\n", ok ? "ok" : "not ok", ++test, seed);
		for (int survival = SIM_SURVIVE_RANDOM; survival <= SIM_SURVIVE_ALL; survival++) {
			uint64_t before = violations;

			for (uint64_t cut = 1; try_cut(seed, cut, steps, (enum sim_survival)survival); cut++)
				if (violations > before + 4)
					break;
			printf("%s %d - cut at every operation, %s, seed %" PRIu64 "\n", violations == before ? "ok" : "not ok", ++test,
			    names[survival], seed);
		}
	}
	printf("1..%d\n", test);
	printf("%" PRIu64 " crash states, %" PRIu64 " violations\n", states, violations);
	return violations > 0 ? 1 : 0;
}
