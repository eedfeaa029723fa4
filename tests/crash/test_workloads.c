/* SPDX-License-Identifier: Apache-2.0 */
/* Every workload of up to three things a store does (rig_verbs.h), from two beginnings, cut at every disk operation of
 * its last one; and at each cut every subset of what was not synced survives, up to eight changes (beyond, a sample),
 * and all of it with the newest write torn, and something at random; or the process alone is killed. From each of these
 * states the store must come back with everything that was acknowledged and every point exact; some live on, and are
 * cut and opened once more.
 *
 * A cut is looked at only when it differs from the one before: there is a new pending change, or more is owed. Subsets
 * without a new change, and states that were tried before, by whichever workload, are not tried or counted again.
 *
 * usage: test_workloads [--seed N] [--length N] [--every N[,N]] [--shard I/N] [--first]
 *        test_workloads [--seed N] --replay BEGINNING LETTERS [CUT SURVIVAL SET]
 * --every N: of the workloads of three, one in N, for each beginning. --shard: those that begin with a verb of the I-th
 * of N parts. --first: stop at the first violation. Prints TAP, and last `N crash states, N violations`. */
#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/dice.h"
#include "tests/lib/rig_cuts.h"
#include "tests/lib/rig_verbs.h"
#include "tests/lib/seen.h"
#include "tests/lib/steady.h"

enum {
	LENGTH_MAX = 3,
	EXHAUSTIVE_MAX = 8, /* pending changes */
	SAMPLES = 48,       /* beyond */
	HEADS = 7,          /* sectors of the newest write that arrive: each of them, of long workloads any */
	TORN = 1,           /* states with writes torn at random, of every cut */
	LIFE_AFTER = 8,     /* of so many states one lives on, */
	THOROUGH = 8,       /* and of so many one is looked at in every way there is */
	KILLS = 1,          /* the process alone is killed, and the next one is cut */
	KILL_OPERATIONS = 80,
	VIOLATIONS_MAX = 20,
};

/* ---- beginnings: a store at rest, with a history ---- */

static const struct {
	const char *name, *script;
} beginnings[] = {
    {"filled", "iiiiiiiiwscbskcrpwccc"},
    {"filling", "iiiiiiiickwsniwcb"},
};
enum { BEGINNINGS = sizeof beginnings / sizeof beginnings[0] };

static struct {
	uint64_t seed;
	unsigned every[BEGINNINGS];
	unsigned length, shard, shards;
	bool first;
	const char *replay; /* letters */
	bool one_state;
	unsigned beginning, cut;
	int survival;
	uint64_t set;
} options = {.seed = 1, .every = {1, 1}, .length = LENGTH_MAX, .shards = 1};

static uint64_t states, violations, scripts;
static struct seen seen; /* states, of all workloads */

static struct rig *beginning[BEGINNINGS];

static struct rig *
new_rig(void)
{
	struct rig *g = calloc(1, sizeof *g);

	if (g == NULL)
		abort();
	return g;
}

static void
act_all(struct rig *g, const char *letters)
{
	for (; *letters != '\0' && g->fault[0] == '\0'; letters++)
		(void)rig_act(g, rig_verb_find(*letters));
}

static void
prepare(unsigned n)
{
	struct rig *g = new_rig();

	rig_create(g, options.seed, RIG_TINY);
	if (rig_open(g) < 0)
		abort();
	act_all(g, beginnings[n].script);
	rig_settle(g);
	if (!rig_check(g)) {
		fprintf(stderr, "%s: %s\n", beginnings[n].name, g->fault);
		abort();
	}
	rig_close(g);
	disk_sim_restart(g->disk, SIM_SURVIVE_ALL, 0);
	beginning[n] = new_rig();
	rig_fork(beginning[n], g);
	rig_stop(g);
	free(g);
}

/* ---- one crash state ---- */

enum { KILLED = SIM_SURVIVE_HEAD + 1 };

struct state {
	const char *letters;
	unsigned beginning, cut;
	int survival; /* enum sim_survival, or KILLED */
	uint64_t set;
	uint64_t owed; /* rig_hash() of the cut */
};

static void
tell(const struct state *s, const struct rig *g)
{
	violations++;
	printf("# VIOLATION of \"%s\" on \"%s\", cut %u: %s\n", s->letters, beginnings[s->beginning].name, s->cut,
	    g->failed ? "the store failed" : g->fault);
	printf("#   again: test_workloads --seed %" PRIu64 " --replay %u %s %u %d %#" PRIx64 "\n", options.seed,
	    s->beginning, s->letters, s->cut, s->survival, s->set);
}

/* The agent has forgotten what it sent, and sends something else; the power goes, and nothing that was not synced
 * survives. */
static bool
live_on(struct rig *g)
{
	if (rig_begin_anew(g))
		(void)rig_fill_zeros(g);
	else
		rig_resend(g);
	rig_settle(g);
	act_all(g, "wcpr");
	if (!g->failed)
		(void)rig_check(g);
	rig_close(g);
	if (g->fault[0] != '\0')
		return false;
	disk_sim_restart(g->disk, SIM_SURVIVE_NONE, 0);
	return rig_come_back(g) && rig_check(g);
}

static bool
comes_back(struct rig *g, bool lives_on)
{
	if (rig_open(g) < 0 || !rig_check_recovered(g) || !rig_check(g))
		return false;
	if (lives_on)
		return live_on(g);
	if (g->acked < g->sent) {
		rig_resend(g);
		rig_settle(g);
		if (g->failed || !rig_check(g))
			return false;
	}
	return true;
}

/* The process alone is killed; while the next one recovers the power goes as well, and some of what neither of them has
 * synced survives. */
static void
end_by_kill(struct rig *g, uint64_t luck)
{
	disk_sim_cut_at(g->disk, 1 + luck % KILL_OPERATIONS);
	if (rig_open(g) == 0)
		(void)rig_check_recovered(g);
	rig_close(g);
	disk_sim_restart(g->disk, SIM_SURVIVE_RANDOM, luck);
}

/* Workloads often come to the same: to merge is to build first, if nobody has. What is on the disk, and what the agent
 * remembers, is all that a recovery can know and all that it is measured by: so such a state is tried once, with luck
 * and thoroughness that follow from these alone, not from which workload came first. */
static bool
was_seen(struct rig *g, uint64_t owed, uint64_t *ret_fingerprint)
{
	struct dice d = {owed};

	*ret_fingerprint = dice_next(&d) ^ disk_sim_hash(g->disk);
	return seen_before(&seen, *ret_fingerprint);
}

static void
try_state(const struct rig_cut *c, const struct state *s)
{
	static struct rig *g;
	uint64_t fingerprint = 0;
	bool lives_on;

	if (g == NULL)
		g = new_rig();
	steady_seed(options.seed + s->cut * 64 + s->set);
	rig_fork(g, c->rig);
	if (s->survival == KILLED)
		end_by_kill(g, s->set);
	else
		disk_sim_restart(g->disk, s->survival, s->set);
	if (g->fault[0] == '\0' && was_seen(g, s->survival == KILLED ? rig_hash(g) : s->owed, &fingerprint)) {
		rig_stop(g);
		return;
	}
	states++;
	steady_seed(options.seed + fingerprint);
	g->brief = fingerprint % THOROUGH != 0 && !options.one_state;
	lives_on = fingerprint / THOROUGH % LIFE_AFTER == 0 || options.one_state;
	if (!comes_back(g, lives_on) || g->failed || g->fault[0] != '\0')
		tell(s, g);
	rig_stop(g);
}

static bool
is_enough(void)
{
	return violations >= (options.first ? 1 : VIOLATIONS_MAX);
}

static bool
is_wanted(const struct state *s)
{
	return !options.one_state ||
	       (options.cut == s->cut && options.survival == s->survival && options.set == s->set);
}

static void
try_one(const struct rig_cut *c, struct state s, int survival, uint64_t set)
{
	s.survival = survival;
	s.set = set;
	if (is_wanted(&s) && !is_enough())
		try_state(c, &s);
}

static void
try_subsets(const struct rig_cut *c, const struct state *s, unsigned pending)
{
	for (uint64_t set = 0; set < (uint64_t)1 << pending; set++)
		if (c->owes || (set & c->fresh) != 0)
			try_one(c, *s, SIM_SURVIVE_CHOSEN, set);
}

/* All, none, all but one, the new ones alone, and any. */
static void
try_sample(const struct rig_cut *c, const struct state *s, unsigned pending, struct dice *dice)
{
	uint64_t all = pending < 64 ? ((uint64_t)1 << pending) - 1 : UINT64_MAX;

	try_one(c, *s, SIM_SURVIVE_CHOSEN, all);
	try_one(c, *s, SIM_SURVIVE_CHOSEN, 0);
	try_one(c, *s, SIM_SURVIVE_CHOSEN, c->fresh);
	for (unsigned i = 0; i < pending; i++)
		try_one(c, *s, SIM_SURVIVE_CHOSEN, all & ~((uint64_t)1 << i));
	for (int i = 0; i < SAMPLES; i++)
		try_one(c, *s, SIM_SURVIVE_CHOSEN, (dice_next(dice) & all) | c->fresh);
}

static void
try_cut(const struct rig_cut *c, unsigned beginning_number, const char *letters, unsigned number)
{
	struct state s = {.letters = letters, .beginning = beginning_number, .cut = number, .owed = rig_hash(c->rig)};
	struct dice dice = {options.seed * 1000003 + number * 31 + (unsigned char)letters[0] * 7 + strlen(letters)};
	unsigned pending = disk_sim_pending(c->rig->disk);
	uint64_t before = states;

	assert(pending <= 64);
	if (pending <= EXHAUSTIVE_MAX)
		try_subsets(c, &s, pending);
	else
		try_sample(c, &s, pending, &dice);
	if (c->fresh == 0 || (states == before && !options.one_state)) /* another workload was cut here */
		return;
	for (uint64_t n = 1; n <= HEADS && n < disk_sim_newest_sectors(c->rig->disk); n++)
		if (strlen(letters) < LENGTH_MAX || dice_once_in(&dice, HEADS))
			try_one(c, s, SIM_SURVIVE_HEAD, n);
	for (int i = 0; i < TORN; i++)
		try_one(c, s, SIM_SURVIVE_RANDOM, dice_next(&dice));
	for (int i = 0; i < KILLS; i++)
		try_one(c, s, KILLED, dice_next(&dice));
}

/* ---- one workload ---- */

static void
try_cuts(struct rig *g, unsigned beginning_number, const char *letters)
{
	const struct rig_cut *list;
	unsigned count = rig_cuts_end(g, &list);

	scripts++;
	for (unsigned i = 0; i < count && !is_enough(); i++)
		try_cut(&list[i], beginning_number, letters, i);
	rig_cuts_free();
}

/* Its last verb cut everywhere, with examine; false: one of them had nothing to do. */
static bool
run_script(unsigned beginning_number, const char *letters, bool examine)
{
	struct rig *g = new_rig();
	size_t last = strlen(letters) - 1;
	bool done = true;

	steady_seed(options.seed);
	rig_fork(g, beginning[beginning_number]);
	if (rig_open(g) < 0)
		abort();
	act_all(g, "w"); /* its segment is begun */
	for (size_t i = 0; i <= last && done; i++) {
		if (i == last && examine)
			rig_cuts_begin(g, 1);
		done = rig_act(g, rig_verb_find(letters[i]));
		if (i == last && examine)
			try_cuts(g, beginning_number, letters);
	}
	if (g->store != NULL && !g->failed)
		(void)rig_check(g); /* not before: who reads lets all that is in flight come home */
	if (g->fault[0] != '\0' || g->failed)
		tell(&(struct state){.letters = letters, .beginning = beginning_number}, g);
	rig_stop(g);
	free(g);
	return done;
}

static uint64_t
hash(unsigned beginning_number, const char *letters)
{
	struct dice d = {beginning_number};

	for (; *letters != '\0'; letters++)
		d.state = dice_next(&d) + (unsigned char)*letters;
	return dice_next(&d);
}

/* A shard has all that begins with its verbs, and verbs that are neighbours do much the same: so it meets most of what
 * comes to the same. */
static bool
is_ours(unsigned verb)
{
	return verb * options.shards / rig_verb_count == options.shard;
}

static bool
is_drawn(unsigned beginning_number, const char *letters)
{
	return strlen(letters) < LENGTH_MAX || hash(beginning_number, letters) % options.every[beginning_number] == 0;
}

/* All workloads of one length that begin as `letters` does. A verb with nothing to do ends its branch. */
static void
extend(unsigned beginning_number, const char *letters, unsigned length)
{
	char longer[LENGTH_MAX + 1];
	unsigned now = (unsigned)strlen(letters) + 1;

	for (unsigned i = 0; i < rig_verb_count && !is_enough(); i++) {
		if (now == 1 && !is_ours(i))
			continue;
		snprintf(longer, sizeof longer, "%s%c", letters, rig_verbs[i].letter);
		if (now == length) {
			if (is_drawn(beginning_number, longer))
				(void)run_script(beginning_number, longer, true);
		} else if (run_script(beginning_number, longer, false)) {
			extend(beginning_number, longer, length);
		}
	}
}

/* The verbs that have something to do at once. */
static void
tell_beginning(unsigned n)
{
	printf("# \"%s\" is %s; then any of ", beginnings[n].name, beginnings[n].script);
	for (unsigned i = 0; i < rig_verb_count; i++) {
		const char letters[] = {rig_verbs[i].letter, '\0'};

		printf("%s", run_script(n, letters, false) ? letters : "");
	}
	printf("\n");
}

static void
run_length(unsigned n, unsigned length)
{
	uint64_t before = violations, states_before = states;
	static int test;

	extend(n, "", length);
	printf("%s %d - workloads of %u on \"%s\": %" PRIu64 " crash states\n", violations == before ? "ok" : "not ok",
	    ++test, length, beginnings[n].name, states - states_before);
}

/* ---- arguments ---- */

static void
usage(void)
{
	fprintf(stderr, "usage: test_workloads [--seed N] [--length N] [--every N[,N]] [--shard I/N] [--first]\n"
			"       test_workloads [--seed N] --replay BEGINNING LETTERS [CUT SURVIVAL SET]\n");
	exit(2);
}

static void
read_replay(int argc, char **argv)
{
	if (argc != 2 && argc != 5)
		usage();
	options.beginning = (unsigned)strtoul(argv[0], NULL, 0);
	options.replay = argv[1];
	options.one_state = argc == 5;
	if (options.one_state) {
		options.cut = (unsigned)strtoul(argv[2], NULL, 0);
		options.survival = atoi(argv[3]);
		options.set = strtoull(argv[4], NULL, 0);
	}
	if (options.beginning >= BEGINNINGS || options.replay[0] == '\0')
		usage();
	for (const char *p = options.replay; *p != '\0'; p++)
		if (rig_verb_find(*p) == NULL)
			usage();
}

static void
read_every(const char *text)
{
	unsigned *every = options.every;

	if (sscanf(text, "%u,%u", &every[0], &every[1]) < 2)
		every[1] = every[0];
	if (every[0] == 0 || every[1] == 0)
		usage();
}

static void
read_arguments(int argc, char **argv)
{
	static const struct option names[] = {{"seed", required_argument, NULL, 's'},
	    {"length", required_argument, NULL, 'l'}, {"every", required_argument, NULL, 'e'},
	    {"shard", required_argument, NULL, 'h'}, {"first", no_argument, NULL, 'f'},
	    {"replay", no_argument, NULL, 'r'}, {0}};
	bool replay = false;
	int c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1)
		switch (c) {
		case 's': options.seed = strtoull(optarg, NULL, 0); break;
		case 'l': options.length = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'e': read_every(optarg); break;
		case 'h':
			if (sscanf(optarg, "%u/%u", &options.shard, &options.shards) != 2)
				usage();
			break;
		case 'f': options.first = true; break;
		case 'r': replay = true; break;
		default: usage();
		}
	if (options.length < 1 || options.length > LENGTH_MAX || options.shard >= options.shards)
		usage();
	if (replay)
		read_replay(argc - optind, argv + optind);
}

int
main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	read_arguments(argc, argv);
	steady_alone();
	steady_seed(options.seed);
	for (unsigned n = 0; n < BEGINNINGS; n++)
		prepare(n);
	printf("# seed %" PRIu64 "\n", options.seed);
	if (options.replay != NULL) {
		(void)run_script(options.beginning, options.replay, true);
	} else {
		for (unsigned n = 0; n < BEGINNINGS; n++)
			tell_beginning(n);
		for (unsigned length = 1; length <= options.length; length++)
			for (unsigned n = 0; n < BEGINNINGS && !is_enough(); n++)
				run_length(n, length);
		printf("1..%u\n", options.length * BEGINNINGS);
	}
	for (unsigned n = 0; n < BEGINNINGS; n++) {
		rig_stop(beginning[n]);
		free(beginning[n]);
	}
	seen_fini(&seen);
	printf("# %" PRIu64 " workloads\n", scripts);
	printf("%" PRIu64 " crash states, %" PRIu64 " violations\n", states, violations);
	return violations > 0 ? 1 : 0;
}
