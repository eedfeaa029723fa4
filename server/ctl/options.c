/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/options.h"

#include <getopt.h>
#include <string.h>

#include "server/ctl/nearest.h"
#include "server/ctl/pick.h"

static const struct option_spec specs[OPTIONS] = {
    [OPT_JSON] = {"json", 0, NULL, "one JSON document, as the API gives it (events: a line each)", true},
    [OPT_NO_HEADER] = {"no-header", 'H', NULL, "no header line; columns separated by one tab", false},
    [OPT_EXACT] = {"exact", 'p', NULL, "exact numbers: bytes, seconds, RFC 3339", false},
    [OPT_COLUMNS] = {"columns", 'o', "COLUMN,...", "these columns; \"all\" for all of them", false},
    [OPT_SOCKET] = {"socket", 0, "PATH", "a control socket, or the directory they are in (also $HOLDFAST_SOCKET)",
	true},
    [OPT_TIMEOUT] = {"timeout", 0, "TIME", "give up after this long (30s; pit create: 60s)", true},
    [OPT_YES] = {"yes", 'y', NULL, "do not ask", false},
    [OPT_PROGRESS] = {"progress", 0, "auto|bar|plain|lines|none", "how to show it", false},
    [OPT_NO_PROGRESS] = {"no-progress", 0, NULL, "the same as --progress none", false},
    [OPT_COLOR] = {"color", 0, "auto|always|never", "colours of states", true},
    [OPT_HELP] = {"help", 'h', NULL, "this help", true},
    [OPT_VERSION] = {"version", 0, NULL, "the version of this program", true},
    [OPT_NAME] = {"name", 0, "NAME", "name of the point", false},
    [OPT_NEWEST] = {"newest", 0, NULL, "keep the newest durable point instead of asking the agent for one", false},
    [OPT_AT] = {"at", 0, "POINT", "id or name of a point, RFC 3339 time, -15m, or latest", false},
    [OPT_FUZZY] = {"fuzzy", 0, NULL, "let --at choose points that are not crash-consistent", false},
    [OPT_VOLUME] = {"volume", 0, "VOLUME", "name or id of the volume; may be left out if there is only one", false},
    [OPT_OUTPUT] = {"output", 'o', "FILE", "where to write; FILE.partial until it is complete", false},
    [OPT_FORCE] = {"force", 0, NULL, "replace FILE if it exists; ca retire: although agents need it", false},
    [OPT_DATA_DIR] = {"data-dir", 0, "DIR", "this staging area itself; holdfastd must be stopped", false},
    [OPT_MAX_LAG] = {"max-lag", 0, "TIME", "the newest point may be this old at most", false},
    [OPT_SOURCE] = {"source", 0, "SOURCE", "of this source", false},
    [OPT_LIFETIME] = {"lifetime", 0, "TIME", "how long the token may be used (1h)", false},
    [OPT_ADDRESS] = {"address", 0, "HOST[:PORT]", "the server's address as its sources see it", false},
    [OPT_FOLLOW] = {"follow", 'f', NULL, "go on with new events as they come", false},
    [OPT_TAIL] = {"tail", 'n', "N", "begin with the last N (100); 0: all", false},
    [OPT_VERIFY] = {"verify", 0, NULL, "is all of it as it was written? exit 0: yes, 6: no", false},
    [OPT_WAIT] = {"wait", 'w', NULL, "watch it until it is over; Ctrl-C only ends the watching", false},
    [OPT_SALVAGE] = {"salvage", 0, NULL, "take what can be read, zeros for the rest; then FILE.salvaged, FILE.bad",
	false},
    [OPT_ALL] = {"all", 0, NULL, "all sources", false},
    [OPT_WITH_POINTS] = {"with-points", 0, NULL, "delete the points that have it, too", false},
    [OPT_WHEN_FULL] = {"when-full", 0, "stall|thin|default", "take nothing more, or give up points", false},
    [OPT_JOURNAL_WINDOW] = {"journal-window", 0, "TIME", "how far back every checkpoint can be restored", false},
    [OPT_POLICY] = {"policy", 0, "RULES", "rules as in \"10m/60m 1h/24h\"", false},
    [OPT_MIN_RETENTION] = {"min-retention", 0, "TIME", "no point that is younger goes", false},
    [OPT_FOR] = {"for", 0, "WHAT", "ready (the default), point, synced, or state=CONTINUOUS", false},
    [OPT_TAG] = {"tag", 0, "KEY[=VALUE]", "only sources that have this tag", false},
    [OPT_PASSPHRASE_FILE] = {"passphrase-file", 0, "FILE", "its first line is the passphrase; else you are asked",
	false},
    [OPT_DATA] = {"data", 0, NULL, "read every block, too, and check its digest", false},
};

const struct option_spec *
option_specs(void)
{
	return specs;
}

/* ---- help ---- */

/* What it is on the left, what it means on the right, or below. */
static void
print_entry(const char *left, const char *right)
{
	if (strlen(left) <= 26) {
		print_sentence(29, "  %-26s %s", left, right);
		return;
	}
	print_sentence(6, "  %s", left);
	print_sentence(29, "%29s%s", "", right);
}

static void
print_option(enum option_id id)
{
	const struct option_spec *s = &specs[id];
	char left[64], letter[8] = "    ";

	if (s->letter != 0)
		snprintf(letter, sizeof letter, "-%c, ", s->letter);
	snprintf(left, sizeof left, "%s--%s%s%s", letter, s->name, s->value == NULL ? "" : " ",
	    s->value == NULL ? "" : s->value);
	print_entry(left, s->help);
}

static void
print_options(uint64_t mask)
{
	for (int id = 0; id < OPTIONS; id++)
		if (mask & OPT_BIT(id))
			print_option((enum option_id)id);
}

static uint64_t
global_options(void)
{
	uint64_t mask = 0;

	for (int id = 0; id < OPTIONS; id++)
		if (specs[id].global)
			mask |= OPT_BIT(id);
	return mask;
}

static void
command_line(const struct command *c, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s%s%s%s", c->noun, c->verb == NULL ? "" : " ", c->verb == NULL ? "" : c->verb,
	    c->operands[0] == '\0' ? "" : " ", c->operands);
}

/* All commands, or those of a noun. */
static void
print_help(const char *noun)
{
	size_t count;
	const struct command *commands = ctl_commands(&count);
	char line[96];

	printf("Usage: holdfastctl [OPTION...] COMMAND\n\nCommands:\n");
	for (size_t i = 0; i < count; i++) {
		if (noun != NULL && strcmp(noun, commands[i].noun) != 0)
			continue;
		command_line(&commands[i], line, sizeof line);
		print_entry(line, commands[i].summary);
	}
	printf("\nOptions (more with COMMAND --help):\n");
	print_options(global_options());
	putchar('\n');
	print_sentence(0, "A SOURCE is an id, the unique beginning of one, or a host name. See holdfastctl(1).");
}

static void
print_command_help(const struct command *c)
{
	char line[96];

	command_line(c, line, sizeof line);
	printf("Usage: holdfastctl %s%s\n\n", line, c->options != 0 ? " [OPTION...]" : "");
	print_sentence(0, "%s", c->summary);
	printf("\nOptions:\n");
	print_options(c->options);
	print_options(global_options());
}

/* ---- parsing ---- */

enum { LONG_BASE = 256 }; /* getopt_long gives LONG_BASE + id for every long option */

/* The leading ':' has getopt_long tell a missing value from an option that there is none of. */
static void
fill_getopt(char *letters, struct option *longs)
{
	strcpy(letters, ":");
	for (int id = 0; id < OPTIONS; id++) {
		size_t n = strlen(letters);

		longs[id] = (struct option){specs[id].name, specs[id].value != NULL, NULL, LONG_BASE + id};
		if (specs[id].letter != 0 && strchr(letters, specs[id].letter) == NULL)
			sprintf(letters + n, "%c%s", specs[id].letter, specs[id].value == NULL ? "" : ":");
	}
	longs[OPTIONS] = (struct option){0};
}

static int
id_of_letter(int letter)
{
	for (int id = 0; id < OPTIONS; id++)
		if (specs[id].letter == letter)
			return id;
	return -1;
}

static int
id_of(int c)
{
	return c >= LONG_BASE ? c - LONG_BASE : id_of_letter(c);
}

/* Those of the command whose words stand there; before all is read, others may be an option's value. Else all there
 * are. */
static uint64_t
likely_options(char **argv)
{
	size_t count;
	const struct command *commands = ctl_commands(&count);

	for (char **word = argv + 1; *word != NULL; word++)
		for (size_t i = 0; i < count; i++)
			if (strcmp(commands[i].noun, word[0]) == 0 &&
			    (commands[i].verb == NULL || (word[1] != NULL && strcmp(commands[i].verb, word[1]) == 0)))
				return commands[i].options | global_options();
	return UINT64_MAX;
}

static int
unknown_option(const char *word, char **argv)
{
	uint64_t likely = likely_options(argv);
	struct nearest n;
	char option[NEAREST_BYTES];

	nearest_begin(&n, word);
	for (int id = 0; id < OPTIONS; id++) {
		snprintf(option, sizeof option, "--%s", specs[id].name);
		if (likely & OPT_BIT(id))
			nearest_offer(&n, option);
	}
	if (n.word[0] != '\0')
		return ctl_fail(EXIT_USAGE, "no such option: %s; did you mean %s?", word, n.word);
	return ctl_fail(EXIT_USAGE, "no such option: %s (--help lists those there are)", word);
}

/* What getopt_long did not like: c is ':' or '?', optopt the option, if it knows it. */
static int
refuse_option(int c, char **argv)
{
	int id = optopt != 0 ? id_of(optopt) : -1;

	if (c == ':')
		return ctl_fail(EXIT_USAGE, "--%s %s: it has no value", specs[id].name, specs[id].value);
	if (id >= 0)
		return ctl_fail(EXIT_USAGE, "--%s takes no value", specs[id].name);
	if (optopt != 0)
		return ctl_fail(EXIT_USAGE, "no such option: -%c (--help lists those there are)", optopt);
	return unknown_option(argv[optind - 1], argv);
}

/* -1: go on. */
static int
read_options(struct ctl *ctl, int argc, char **argv)
{
	struct option longs[OPTIONS + 1];
	char letters[2 * OPTIONS + 2];
	int c;

	fill_getopt(letters, longs);
	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		if (c == '?' || c == ':')
			return refuse_option(c, argv);
		ctl->values[id_of(c)] = optarg == NULL ? "" : optarg;
	}
	ctl->operands = argv + optind;
	ctl->operand_count = argc - optind;
	return -1;
}

/* Find the command and take its words from the operands. NULL: there is none. */
static const struct command *
take_command(struct ctl *ctl)
{
	size_t count;
	const struct command *commands = ctl_commands(&count);

	if (ctl->operand_count == 0)
		return &commands[0];
	for (size_t i = 0; i < count; i++) {
		const struct command *c = &commands[i];
		int words = c->verb == NULL ? 1 : 2;

		if (strcmp(c->noun, ctl->operands[0]) != 0)
			continue;
		if (words == 2 && (ctl->operand_count < 2 || strcmp(c->verb, ctl->operands[1]) != 0))
			continue;
		ctl->operands += words;
		ctl->operand_count -= words;
		return c;
	}
	return NULL;
}

/* "source what? list, show, set, ..." */
static int
say_verbs(const char *noun)
{
	size_t count, len = 0;
	const struct command *commands = ctl_commands(&count);
	char verbs[256] = "";

	for (size_t i = 0; i < count; i++)
		if (strcmp(commands[i].noun, noun) == 0 && commands[i].verb != NULL && len < sizeof verbs)
			len += (size_t)snprintf(
			    verbs + len, sizeof verbs - len, "%s%s", len > 0 ? ", " : "", commands[i].verb);
	return ctl_fail(EXIT_USAGE, "%s what? %s (holdfastctl %s --help)", noun, verbs, noun);
}

static bool
is_noun(const char *word)
{
	size_t count;
	const struct command *commands = ctl_commands(&count);

	for (size_t i = 0; i < count; i++)
		if (strcmp(commands[i].noun, word) == 0)
			return true;
	return false;
}

static int
unknown_command(const struct ctl *ctl)
{
	const char *typed = ctl->operands[0], *typed_verb = ctl->operand_count > 1 ? ctl->operands[1] : "";
	struct nearest noun, verb;
	size_t count;
	const struct command *commands = ctl_commands(&count);
	bool alone = false;

	nearest_begin(&noun, typed);
	nearest_begin(&verb, typed_verb);
	for (size_t i = 0; i < count; i++)
		nearest_offer(&noun, commands[i].noun);
	for (size_t i = 0; i < count; i++) {
		if (strcmp(commands[i].noun, noun.word) != 0)
			continue;
		alone = alone || commands[i].verb == NULL;
		if (commands[i].verb != NULL)
			nearest_offer(&verb, commands[i].verb);
	}
	if (noun.word[0] == '\0')
		return ctl_fail(EXIT_USAGE, "no such command: %s (holdfastctl --help lists them)", typed);
	if (!alone && verb.word[0] == '\0')
		return say_verbs(noun.word);
	return ctl_fail(EXIT_USAGE, "no such command: %s%s%s; did you mean holdfastctl %s%s%s?", typed,
	    verb.word[0] != '\0' ? " " : "", verb.word[0] != '\0' ? typed_verb : "", noun.word,
	    verb.word[0] != '\0' ? " " : "", verb.word);
}

static bool
is_color(const char *text)
{
	return strcmp(text, "auto") == 0 || strcmp(text, "always") == 0 || strcmp(text, "never") == 0;
}

static int
check_command(struct ctl *ctl)
{
	const struct command *c = ctl->command;
	char line[96];

	command_line(c, line, sizeof line);
	/* -o is COLUMN,... where there is a table, FILE where there is none. */
	if (ctl_given(ctl, OPT_COLUMNS) && (c->options & OPT_BIT(OPT_OUTPUT))) {
		ctl->values[OPT_OUTPUT] = ctl->values[OPT_COLUMNS];
		ctl->values[OPT_COLUMNS] = NULL;
	}
	if (ctl_given(ctl, OPT_COLOR) && !is_color(ctl->values[OPT_COLOR]))
		return ctl_fail(EXIT_USAGE, "--color %s: auto, always or never is wanted", ctl->values[OPT_COLOR]);
	for (int id = 0; id < OPTIONS; id++)
		if (ctl->values[id] != NULL && !specs[id].global && !(c->options & OPT_BIT(id)))
			return ctl_fail(EXIT_USAGE, "--%s means nothing to holdfastctl %s (--help tells what does)",
			    specs[id].name, line);
	if (ctl->operand_count < c->operands_min)
		return ctl_fail(EXIT_USAGE, "something is missing: holdfastctl %s", line);
	if (ctl->operand_count > c->operands_max)
		return ctl_fail(EXIT_USAGE, "\"%s\" is too much: holdfastctl %s", ctl->operands[c->operands_max], line);
	return -1;
}

int
options_parse(struct ctl *ctl, int argc, char **argv)
{
	int code = read_options(ctl, argc, argv);

	if (code >= 0)
		return code;
	if (ctl_given(ctl, OPT_VERSION)) {
		printf("holdfastctl %s\n", HOLDFAST_VERSION);
		return EXIT_DONE;
	}
	if (ctl_given(ctl, OPT_HELP) && ctl->operand_count == 0) {
		print_help(NULL);
		return EXIT_DONE;
	}
	ctl->command = take_command(ctl);
	if (ctl->command == NULL && ctl_given(ctl, OPT_HELP) && is_noun(ctl->operands[0])) {
		print_help(ctl->operands[0]);
		return EXIT_DONE;
	}
	if (ctl->command == NULL)
		return unknown_command(ctl);
	if (ctl_given(ctl, OPT_HELP)) {
		print_command_help(ctl->command);
		return EXIT_DONE;
	}
	return check_command(ctl);
}
