/* SPDX-License-Identifier: Apache-2.0 */
/* completion BASH|ZSH|FISH prints a script, which asks `completion words -- WORD...`: see proto/common/completion.h. */
#include "agent/completion.h"

#include <stdio.h>
#include <string.h>

#include "agent/say.h"
#include "proto/common/completion.h"

static void
offer_commands(const char *begun)
{
	int count;
	const struct command_spec *commands = command_specs(&count);

	for (int i = 0; i < count; i++)
		completion_offer(begun, commands[i].name, commands[i].summary);
	if (begun[0] == '-') {
		completion_offer(begun, "--help", "print this");
		completion_offer(begun, "--version", "print the version");
	}
}

static void
offer_options(const char *begun, int command)
{
	int count;
	const struct option_spec *options = option_specs(&count);
	char word[64];

	for (int i = 0; i < count; i++) {
		snprintf(word, sizeof word, "--%s", options[i].name);
		if (options[i].commands & (1u << command))
			completion_offer(begun, word, options[i].help);
	}
}

static int
find_command(const char *name)
{
	int count;
	const struct command_spec *commands = command_specs(&count);

	for (int i = 0; i < count; i++)
		if (strcmp(commands[i].name, name) == 0)
			return i;
	return -1;
}

/* What the word before wants for a value; NULL: nothing. */
static const char *
find_argument(int command, const char *word)
{
	int count;
	const struct option_spec *options = option_specs(&count);

	for (int i = 0; i < count; i++)
		if ((options[i].commands & (1u << command)) && strncmp(word, "--", 2) == 0 &&
		    strcmp(options[i].name, word + 2) == 0)
			return options[i].argument;
	return NULL;
}

static void
offer(char **words, int count)
{
	const char *begun = count > 0 ? words[count - 1] : "", *argument;
	int command = count > 1 ? find_command(words[0]) : -1, total;

	if (count <= 1)
		offer_commands(begun);
	if (command < 0)
		return;
	argument = find_argument(command, words[count - 2]);
	if (argument != NULL)
		completion_offer_values(begun, argument);
	else if (command == COMMAND_COMPLETION && begun[0] != '-')
		completion_offer_values(begun, command_specs(&total)[command].arguments);
	else
		offer_options(begun, command);
}

int
completion_run(const struct options *o)
{
	if (completion_answer("holdfast-agent", o->words, o->word_count, offer) == 0)
		return EXIT_OK;
	say("'%s' is no shell that this knows: " COMPLETION_SHELLS, o->words[o->word_count - 1]);
	return EXIT_USAGE;
}
