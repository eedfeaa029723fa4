/* SPDX-License-Identifier: Apache-2.0 */
/* A store's life (declaration, first fill, journal, checkpoints, runs, points, fold) on the simulated disk, with the
 * power cut at the disk operations of it in turn. After each cut whatever was not synced survives in part, torn; the
 * store must come back with every acknowledged frame and every listed point exact, go on where it stopped, and be exact
 * again at the end. Or the process alone is killed, and the power goes while the next one recovers. By seed a life is
 * plain, wild, or a keeper's: see store_rig.h.
 *
 * usage: test_store_crash [--seed N] [--seeds N] [--steps N] [--stride N] [--states N] [--first]
 *        test_store_crash [--seed N] [--steps N] [--stride N] --replay STEP CUT END
 * From seed N on so many lives of so many steps, one cut in `stride` of each; with --states as many lives as it takes.
 * --first: stop at the first violation. Prints TAP, and last `N crash states, N violations`. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/rig_cuts.h"
#include "tests/lib/steady.h"

enum { LIFE_AFTER = 12, VIOLATIONS_MAX = 20 };

enum end {        /* of a life */
	END_SOME, /* the power goes: a random part of what was not synced survives */
	END_NONE, /* nothing of it */
	END_ALL,  /* all of it */
	END_KILL, /* the process alone is killed, and goes on; the power goes while it recovers, or soon after */
	END_COUNT,
};

static struct {
	uint64_t seed, seeds, states;
	unsigned steps, stride;
	bool first, replay;
	unsigned step, cut, end;
} options = {.seed = 1, .seeds = 4, .steps = 250, .stride = 6};

static const struct {
	enum rig_kind kind;
	const char *name;
} kinds[] = {{RIG_PLAIN, "plain"}, {RIG_WILD, "wild"}, {RIG_KEEPER, "keeper"}}; /* by seed */

static uint64_t states, violations;

static bool
is_enough(void)
{
	return violations >= (options.first ? 1 : VIOLATIONS_MAX);
}

static bool
goes_on(const struct rig *g)
{
	return !disk_sim_is_cut(g->disk) && g->fault[0] == '\0' && g->store != NULL &&
	       (g->kind == RIG_WILD || !g->failed);
}

static void
run_steps(struct rig *g, unsigned steps)
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
	} while (g->kind == RIG_WILD && g->failed && goes_on(g));
	if (!g->failed && goes_on(g))
		rig_run_jobs(g, 100);
}

/* After a kill the power goes as well, but only once the next process has relied on what it found; else now and then.
 */
static void
end_again(struct rig *g, enum end end, uint64_t luck)
{
	if (end != END_KILL && luck % 4 != 0)
		return;
	disk_sim_cut_at(g->disk, 1 + luck % 61);
	if (rig_open(g) == 0 && rig_check_recovered(g)) {
		rig_resend(g);
		rig_settle(g);
	}
	if (!disk_sim_is_cut(g->disk) && g->fault[0] != '\0')
		return; /* the violation is told by the caller */
	rig_close(g);
	g->fault[0] = '\0';
	if (end == END_KILL)
		end = luck % 3 == 0 ? END_SOME : END_NONE;
	disk_sim_restart(g->disk, (enum sim_survival)end, luck * 7);
}

static bool
comes_back(struct rig *g)
{
	if (rig_open(g) < 0 || !rig_check_recovered(g) || !rig_check(g))
		return false;
	rig_resend(g);
	rig_settle(g);
	run_steps(g, LIFE_AFTER);
	run_out(g);
	return g->store != NULL && rig_check(g) && !g->failed;
}

static void
try_state(const struct rig *cut, unsigned step, unsigned number, enum end end)
{
	static struct rig *g;
	uint64_t luck = (cut->seed * 1000003 + step) * 401 + number;

	if (g == NULL && (g = calloc(1, sizeof *g)) == NULL)
		abort();
	states++;
	steady_seed(luck);
	rig_fork(g, cut);
	if (end != END_KILL)
		disk_sim_restart(g->disk, (enum sim_survival)end, luck);
	end_again(g, end, luck);
	if (g->fault[0] != '\0' || !comes_back(g)) {
		violations++;
		printf("# VIOLATION: %s\n", g->failed ? "the store failed" : g->fault);
		printf("#   again: test_store_crash --seed %" PRIu64 " --steps %u --stride %u --replay %u %u %d\n",
		    cut->seed, options.steps, options.stride, step, number, (int)end);
	}
	rig_stop(g);
}

static bool
is_wanted(unsigned step, unsigned number, enum end end)
{
	return !is_enough() &&
	       (!options.replay || (step == options.step && number == options.cut && (unsigned)end == options.end));
}

/* One step of a life, cut here and there. */
static void
cut_step(struct rig *g, unsigned step)
{
	const struct rig_cut *cuts;
	unsigned count;

	rig_cuts_begin(g, options.stride);
	if (step == 0)
		(void)rig_open(g);
	else
		rig_step(g);
	count = rig_cuts_end(g, &cuts);
	steady_leave();
	for (unsigned i = 0; i < count; i++)
		for (int end = 0; end < END_COUNT; end++)
			if (is_wanted(step, i, (enum end)end))
				try_state(cuts[i].rig, step, i, (enum end)end);
	steady_return();
	rig_cuts_free();
}

static void
live(struct rig *g, uint64_t seed)
{
	steady_seed(seed);
	rig_create(g, seed, kinds[seed % 3].kind);
	for (unsigned i = 0; (i == 0 || goes_on(g)) && i < options.steps && !is_enough(); i++)
		cut_step(g, i);
	run_out(g);
	if (g->fault[0] == '\0' && !is_enough())
		(void)rig_check(g);
}

/* What a keeper keeps may stand in the way of every fold; and whether a merge leaves holes large enough to be made is
 * luck. */
static bool
has_proved_enough(const struct rig *g)
{
	return g->runs_built > 0 && (g->kind == RIG_KEEPER ? g->merges > 0 : g->folds > 0);
}

/* A life must reach everything it is meant to reach, and be right itself. */
static bool
try_life(uint64_t seed)
{
	struct rig *g = calloc(1, sizeof *g);
	uint64_t before = violations;

	if (g == NULL)
		abort();
	live(g, seed);
	if (g->fault[0] != '\0' || g->failed) {
		violations++;
		printf("# VIOLATION seed=%" PRIu64 " without a cut: %s\n", seed,
		    g->failed ? "the store failed" : g->fault);
	}
	printf("# seed %" PRIu64 " (%s): %" PRIu64 " frames, %u streams, %u declarations, %" PRIu64
	       " disk operations, %u runs, %u folds, %u merges, %u times punched, %u times reopened\n",
	    seed, kinds[seed % 3].name, g->sent, g->streams + 1, g->declarations, disk_sim_operations(g->disk),
	    g->runs_built, g->folds, g->merges, g->punches, g->reopened);
	if (violations == before && options.states == 0 && !options.replay && !has_proved_enough(g)) {
		printf("# it folded, built or merged nothing: it proves too little\n");
		violations++;
	}
	rig_stop(g);
	free(g);
	return violations == before;
}

static void
usage(void)
{
	fprintf(stderr,
	    "usage: test_store_crash [--seed N] [--seeds N] [--steps N] [--stride N] [--states N] [--first]\n"
	    "       test_store_crash [--seed N] [--steps N] [--stride N] --replay STEP CUT END\n");
	exit(2);
}

static void
read_replay(int argc, char **argv)
{
	if (argc != (options.replay ? 3 : 0))
		usage();
	if (!options.replay)
		return;
	options.seeds = 1;
	options.step = (unsigned)strtoul(argv[0], NULL, 0);
	options.cut = (unsigned)strtoul(argv[1], NULL, 0);
	options.end = (unsigned)strtoul(argv[2], NULL, 0);
}

static void
read_arguments(int argc, char **argv)
{
	static const struct option names[] = {{"seed", required_argument, NULL, 's'},
	    {"seeds", required_argument, NULL, 'n'}, {"steps", required_argument, NULL, 't'},
	    {"stride", required_argument, NULL, 'r'}, {"states", required_argument, NULL, 'a'},
	    {"first", no_argument, NULL, 'f'}, {"replay", no_argument, NULL, 'p'}, {0}};
	int c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1)
		switch (c) {
		case 's': options.seed = strtoull(optarg, NULL, 0); break;
		case 'n': options.seeds = strtoull(optarg, NULL, 0); break;
		case 't': options.steps = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'r': options.stride = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'a': options.states = strtoull(optarg, NULL, 0); break;
		case 'f': options.first = true; break;
		case 'p': options.replay = true; break;
		default: usage();
		}
	if (options.stride == 0 || options.steps == 0)
		usage();
	read_replay(argc - optind, argv + optind);
}

int
main(int argc, char **argv)
{
	uint64_t lives = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	read_arguments(argc, argv);
	steady_alone();
	while ((options.states > 0 ? states < options.states : lives < options.seeds) && !is_enough()) {
		uint64_t seed = options.seed + lives++, before = states;
		bool ok = try_life(seed);

		printf("%s %" PRIu64 " - a life of %u steps, seed %" PRIu64 ": %" PRIu64 " crash states\n",
		    ok ? "ok" : "not ok", lives, options.steps, seed, states - before);
	}
	printf("1..%" PRIu64 "\n", lives);
	printf("%" PRIu64 " crash states, %" PRIu64 " violations\n", states, violations);
	return violations > 0 ? 1 : 0;
}
