/* SPDX-License-Identifier: Apache-2.0 */
/* completion ...: the shells ask us what may stand where the cursor is. Commands and options are those of the tables
 * that also parse and help, and what an operand or a value is called there (SOURCE, a|b) tells what it can be. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/completion.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/options.h"
#include "server/ctl/pick.h"

int
run_completion(struct ctl *ctl)
{
	if (completion_print(ctl->operands[0], "holdfastctl") < 0)
		return ctl_fail(EXIT_USAGE, "%s: no such shell: " COMPLETION_SHELLS, ctl->operands[0]);
	return EXIT_DONE;
}

/* ---- what is on the line before the cursor ---- */

enum { OPERANDS_MAX = 8, NO_OPTION = -1 };

struct line {
	struct ctl ctl; /* to ask holdfastd with */
	const char *begun;
	const char
	    *operands[OPERANDS_MAX]; /* the words that are no options nor their values; the command's own first */
	int operand_count;
	const struct command *command; /* NULL: not all of it is there */
	int awaiting;                  /* the option whose value begun is, or NO_OPTION */
};

static bool
may_have(const struct line *l, int id)
{
	return option_specs()[id].global || l->command == NULL || (l->command->options & OPT_BIT(id));
}

/* -x or --name, as it stands on the line. */
static bool
is_called(const struct option_spec *spec, const char *word)
{
	if (word[1] == '-')
		return strcmp(spec->name, word + 2) == 0;
	return spec->letter != 0 && spec->letter == word[strlen(word) - 1];
}

/* The option that the next word is the value of. */
static int
find_awaiting(const struct line *l, const char *word)
{
	for (int id = 0; id < OPTIONS; id++)
		if (option_specs()[id].value != NULL && may_have(l, id) && is_called(&option_specs()[id], word))
			return id;
	return NO_OPTION;
}

static int
command_words(const struct command *c)
{
	return c->verb == NULL ? 1 : 2;
}

static bool
is_command(const struct line *l, const struct command *c)
{
	return l->operand_count >= command_words(c) && strcmp(c->noun, l->operands[0]) == 0 &&
	       (c->verb == NULL || strcmp(c->verb, l->operands[1]) == 0);
}

static const struct command *
find_command(const struct line *l)
{
	size_t count;
	const struct command *commands = ctl_commands(&count);

	for (size_t i = 0; i < count; i++)
		if (is_command(l, &commands[i]))
			return &commands[i];
	return NULL;
}

static void
take_word(struct line *l, const char *word)
{
	if (l->awaiting != NO_OPTION) {
		l->ctl.values[l->awaiting] = word;
		l->awaiting = NO_OPTION;
	} else if (word[0] == '-' && word[1] != '\0') {
		l->awaiting = find_awaiting(l, word);
	} else if (l->operand_count < OPERANDS_MAX) {
		l->operands[l->operand_count++] = word;
		l->command = find_command(l);
	}
}

/* ---- what may stand there ---- */

static void
offer(const struct line *l, const char *word, const char *text)
{
	completion_offer(l->begun, word, text);
}

/* By its name; by its id when it has none, or when an id was begun. */
static void
offer_item(const struct line *l, const json_t *item, const char *id_path, const char *name_path, const char *text_path)
{
	const char *id = pick_text(item, id_path), *name = pick_text(item, name_path);
	const char *text = text_path == NULL ? id : pick_text(item, text_path);

	offer(l, name, text);
	if (name[0] == '\0' || strncmp(l->begun, id, strcspn(id, "-") + 1) == 0)
		offer(l, id, name[0] == '\0' ? text : name);
}

/* Ask for a list; NULL if there is none. Gives. */
static json_t *
ask(struct line *l, const char *path)
{
	json_t *items = NULL;

	l->ctl.values[OPT_TIMEOUT] = "3s"; /* somebody sits there and waits */
	if (client_create(&l->ctl, &l->ctl.client) == EXIT_DONE &&
	    client_list(l->ctl.client, &items, path) != EXIT_DONE)
		items = NULL;
	client_destroy(l->ctl.client);
	return items;
}

static void
offer_list(struct line *l, const char *path, const char *id_path, const char *name_path, const char *text_path)
{
	json_t *items = ask(l, path), *item;
	size_t i;

	json_array_foreach (items, i, item) {
		offer_item(l, item, id_path, name_path, text_path);
	}
	json_decref(items);
}

#define HOST_NAME "sourceProperties.identificationHints.hostname"

static void
offer_sources(struct line *l)
{
	offer_list(l, "/v1/source-servers?", "sourceServerID", HOST_NAME, NULL);
}

/* A list of each source that may be meant: of the one that is on the line already, or of all. */
static void
offer_of_sources(struct line *l, const char *path, const char *id_path, const char *text_path)
{
	int at = command_words(l->command), code;
	bool given = l->operand_count > at && strncmp(l->command->operands, "SOURCE", strlen("SOURCE")) == 0;
	json_t *sources = ask(l, "/v1/source-servers?"), *source;
	const json_t *meant = given && sources != NULL ? match_source(sources, l->operands[at], &code) : NULL;
	char full_path[96];
	size_t i;

	json_array_foreach (sources, i, source) {
		if (given && source != meant)
			continue;
		snprintf(
		    full_path, sizeof full_path, "%s?sourceServerID=%s", path, pick_text(source, "sourceServerID"));
		offer_list(l, full_path, id_path, "name", text_path);
	}
	json_decref(sources);
}

static void
offer_points(struct line *l)
{
	offer_of_sources(l, "/v1/points-in-time", "pointInTimeID", "timestamp");
}

static void
offer_volumes(struct line *l)
{
	offer_of_sources(l, "/v1/volumes", "volumeID", NULL);
}

static void
offer_tokens(struct line *l)
{
	offer_list(l, "/v1/tokens?", "tokenID", "", "expiresDateTime");
}

static const struct lister {
	const char *word; /* of the tables */
	void (*offer_all)(struct line *l);
} listers[] = {
    {"SOURCE", offer_sources},
    {"POINT", offer_points},
    {"VOLUME", offer_volumes},
    {"TOKEN", offer_tokens},
};

/* One of what a word of the tables names: itself, or a list of such things. */
static void
offer_alternative(struct line *l, const char *word)
{
	if (islower((unsigned char)word[0]))
		offer(l, word, "");
	for (size_t i = 0; i < sizeof listers / sizeof listers[0]; i++)
		if (strcmp(listers[i].word, word) == 0)
			listers[i].offer_all(l);
}

/* "SOURCE", "[RULE...|none]", "bash|zsh|fish" */
static void
offer_values(struct line *l, const char *words, size_t len)
{
	char *text = strndup(words, len), *rest = text, *word;

	while (text != NULL && (word = strsep(&rest, "[]|.")) != NULL)
		if (word[0] != '\0')
			offer_alternative(l, word);
	free(text);
}

static void
offer_operand(struct line *l)
{
	const char *words = l->command->operands;

	for (int at = command_words(l->command); at < l->operand_count; at++) {
		const char *next = strchr(words, ' ');

		if (next == NULL && strstr(words, "...") == NULL)
			return; /* all are there */
		words = next == NULL ? words : next + 1;
	}
	offer_values(l, words, strcspn(words, " "));
}

static void
offer_options(const struct line *l)
{
	char word[64];

	for (int id = 0; id < OPTIONS; id++) {
		snprintf(word, sizeof word, "--%s", option_specs()[id].name);
		if (option_specs()[id].global || (l->command != NULL && (l->command->options & OPT_BIT(id))))
			offer(l, word, option_specs()[id].help);
	}
}

/* The first word of all commands, or the second of those of a noun. */
static void
offer_commands(const struct line *l)
{
	size_t count;
	const struct command *commands = ctl_commands(&count);

	for (size_t i = 0; i < count; i++) {
		const struct command *c = &commands[i];

		if (l->operand_count == 0 && (i == 0 || strcmp(commands[i - 1].noun, c->noun) != 0))
			offer(l, c->noun, c->verb == NULL ? c->summary : "");
		else if (l->operand_count == 1 && c->verb != NULL && strcmp(c->noun, l->operands[0]) == 0)
			offer(l, c->verb, c->summary);
	}
}

static void
offer_all(struct line *l)
{
	if (l->awaiting != NO_OPTION)
		offer_values(l, option_specs()[l->awaiting].value, strlen(option_specs()[l->awaiting].value));
	else if (l->begun[0] == '-')
		offer_options(l);
	else if (l->command == NULL)
		offer_commands(l);
	else
		offer_operand(l);
}

int
run_completion_words(struct ctl *ctl)
{
	struct line l = {.ctl = *ctl, .begun = "", .awaiting = NO_OPTION};

	for (int i = 0; i + 1 < ctl->operand_count; i++)
		take_word(&l, ctl->operands[i]);
	if (ctl->operand_count > 0)
		l.begun = ctl->operands[ctl->operand_count - 1];
	offer_all(&l);
	return EXIT_DONE;
}
