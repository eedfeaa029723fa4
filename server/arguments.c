/* SPDX-License-Identifier: Apache-2.0 */
/* What there is, its help and its completion are one table; what an option does is take_option()'s. */
#include "server/arguments.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/common/completion.h"
#include "proto/common/log.h"

enum { OPTION_CHECK = 256, OPTION_PRINT, OPTION_LOG_LEVEL, OPTION_VERSION };

static const struct option_spec {
	int id; /* its letter, or OPTION_... */
	const char *name;
	const char *value; /* "a|b", or what it is; NULL: it takes none */
	const char *help;
} specs[] = {
    {'c', "config", "FILE", "configuration (" CONFIG_DEFAULT_PATH ", if there)"},
    {OPTION_CHECK, "check-config", NULL, "say every problem of it and what it names; exit 0 or 78"},
    {OPTION_PRINT, "print-config", NULL, "print the configuration that would be in effect"},
    {OPTION_LOG_LEVEL, "log-level", LOG_LEVELS, "least important lines that are logged"},
    {OPTION_VERSION, "version", NULL, "print the version"},
    {'h', "help", NULL, "print this"},
};

enum { OPTIONS = sizeof specs / sizeof specs[0] };

struct parser {
	struct arguments o;
	int code; /* >= 0: nothing else to do */
};

/* ---- help ---- */

enum { NAME_WIDTH = 16 };

static void
print_option(const struct option_spec *s)
{
	char letter[8] = "", name[64];

	if (s->id < OPTION_CHECK)
		snprintf(letter, sizeof letter, "-%c,", s->id);
	snprintf(name, sizeof name, "--%s%s%s", s->name, s->value != NULL ? " " : "", s->value != NULL ? s->value : "");
	printf("  %-3s %-*s", letter, NAME_WIDTH, name);
	if (strlen(name) > NAME_WIDTH)
		printf("\n      %*s", NAME_WIDTH, "");
	printf(" %s\n", s->help);
}

static void
print_help(void)
{
	fputs("usage: holdfastd [-c FILE] [--log-level LEVEL] [--check-config | --print-config]\n"
	      "       holdfastd completion " COMPLETION_SHELLS "\n\n",
	    stdout);
	for (size_t i = 0; i < OPTIONS; i++)
		print_option(&specs[i]);
	fputs("\nRuns in the foreground. SIGTERM stops it in good order, SIGHUP has it read the\n"
	      "configuration again. See holdfastd(8), holdfastd.conf(5).\n",
	    stdout);
}

/* ---- completion ---- */

/* What takes a value, and is that word; NULL: it wants none. */
static const struct option_spec *
find_valued(const char *word)
{
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option_spec *s = &specs[i];
		bool is_letter = word[0] == '-' && word[1] == s->id && word[1] != '\0' && word[2] == '\0';

		if (s->value != NULL && (is_letter || (strncmp(word, "--", 2) == 0 && strcmp(word + 2, s->name) == 0)))
			return s;
	}
	return NULL;
}

static void
offer_options(const char *begun)
{
	char word[32];

	for (size_t i = 0; i < OPTIONS; i++) {
		snprintf(word, sizeof word, "--%s", specs[i].name);
		completion_offer(begun, word, specs[i].help);
	}
}

static void
offer(char **words, int count)
{
	const char *begun = count > 0 ? words[count - 1] : "", *before = count > 1 ? words[count - 2] : "";
	const struct option_spec *valued = find_valued(before);

	if (strcmp(before, "completion") == 0)
		completion_offer_values(begun, COMPLETION_SHELLS);
	else if (valued == NULL)
		offer_options(begun);
	else
		completion_offer_values(begun, valued->value);
}

/* ---- the command line ---- */

static void __attribute__((format(printf, 2, 3))) refuse(struct parser *p, const char *format, ...)
{
	va_list ap;

	fputs("holdfastd: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputs(" (see holdfastd --help)\n", stderr);
	p->code = EXIT_USAGE;
}

/* word: the last that getopt_long has read; of several letters in one (-xc) that is the word before. */
static void
refuse_option(struct parser *p, int option, const char *word)
{
	if (option == ':')
		refuse(p, "%s wants a value", word);
	else if (optopt > 0 && optopt < OPTION_CHECK)
		refuse(p, "-%c means nothing here", optopt);
	else
		refuse(p, "%s means nothing here", word);
}

static void
take_option(struct parser *p, int option, const char *word)
{
	switch (option) {
	case 'c': p->o.origin.path = optarg; return;
	case OPTION_CHECK: p->o.check = true; return;
	case OPTION_PRINT: p->o.print = true; return;
	case OPTION_LOG_LEVEL: p->o.origin.log_level = optarg; return;
	case OPTION_VERSION:
		printf("holdfastd %s\n", HOLDFAST_VERSION);
		p->code = 0;
		return;
	case 'h':
		print_help();
		p->code = 0;
		return;
	default: refuse_option(p, option, word); return;
	}
}

static void
take_words(struct parser *p, char **words, int count)
{
	if (strcmp(words[0], "completion") != 0)
		refuse(p, "%s is one argument too many", words[0]);
	else if (completion_answer("holdfastd", words + 1, count - 1, offer) == 0)
		p->code = 0;
	else
		refuse(p, "completion: " COMPLETION_SHELLS " is wanted");
}

static void
read_options(struct parser *p, int argc, char **argv)
{
	struct option options[OPTIONS + 1] = {0};
	int option;

	for (size_t i = 0; i < OPTIONS; i++)
		options[i] = (struct option){
		    specs[i].name, specs[i].value != NULL ? required_argument : no_argument, NULL, specs[i].id};
	opterr = 0;
	while (p->code < 0 && (option = getopt_long(argc, argv, "+:c:h", options, NULL)) != -1)
		take_option(p, option, argv[optind - 1]);
}

bool
arguments_parse(int argc, char **argv, struct arguments *ret_arguments, int *ret_code)
{
	struct parser p = {.code = -1};
	const char *level;

	read_options(&p, argc, argv);
	if (p.code < 0 && optind < argc)
		take_words(&p, argv + optind, argc - optind);
	level = p.o.origin.log_level;
	if (p.code < 0 && level != NULL && log_level_parse(level) < 0)
		refuse(&p, "--log-level %s: one of " LOG_LEVELS, level);
	*ret_arguments = p.o;
	*ret_code = p.code;
	return p.code < 0;
}
