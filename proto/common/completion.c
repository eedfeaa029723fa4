/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/completion.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PLACE "PROGRAM" /* where the program's name goes */

static const struct script {
	const char *shell, *text;
} scripts[] = {
    {"bash", "# Completion of PROGRAM; made by: PROGRAM completion bash\n"
	     "_PROGRAM() {\n"
	     "\tlocal line\n"
	     "\tCOMPREPLY=()\n"
	     "\twhile IFS= read -r line; do\n"
	     "\t\tCOMPREPLY+=(\"$(printf %q \"${line%%$'\\t'*}\")\")\n"
	     "\tdone < <(\"${COMP_WORDS[0]}\" completion words -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
	     "}\n"
	     "complete -o default -F _PROGRAM PROGRAM\n"},
    {"zsh",
	"#compdef PROGRAM\n"
	"# Completion of PROGRAM; made by: PROGRAM completion zsh\n"
	"_PROGRAM() {\n"
	"\tlocal -a found\n"
	"\tlocal line\n"
	"\tfor line in ${(f)\"$(\"${words[1]}\" completion words -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"}; do\n"
	"\t\tfound+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\")\n"
	"\tdone\n"
	"\tif (( $#found )); then\n"
	"\t\t_describe PROGRAM found\n"
	"\telse\n"
	"\t\t_files\n"
	"\tfi\n"
	"}\n"
	"if [ \"$funcstack[1]\" = _PROGRAM ]; then\n"
	"\t_PROGRAM \"$@\"\n"
	"else\n"
	"\tcompdef _PROGRAM PROGRAM\n"
	"fi\n"},
    {"fish", "# Completion of PROGRAM; made by: PROGRAM completion fish\n"
	     "function __PROGRAM\n"
	     "\tset -l words (commandline -opc) \"$(commandline -ct)\"\n"
	     "\t$words[1] completion words -- $words[2..-1] 2>/dev/null\n"
	     "end\n"
	     "complete -c PROGRAM -f -a '(__PROGRAM)'\n"
	     "complete -c PROGRAM -n 'test -z \"$(__PROGRAM)\"' -F\n"},
};

/* The text, with the program's name in its places. */
static void
print_named(const char *text, const char *program)
{
	const char *place;

	for (; (place = strstr(text, PLACE)) != NULL; text = place + strlen(PLACE))
		printf("%.*s%s", (int)(place - text), text, program);
	fputs(text, stdout);
}

int
completion_print(const char *shell, const char *program)
{
	for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
		if (strcmp(scripts[i].shell, shell) == 0) {
			print_named(scripts[i].text, program);
			return 0;
		}
	}
	return -ENOENT;
}

void
completion_offer(const char *begun, const char *word, const char *text)
{
	if (word[0] != '\0' && strncmp(word, begun, strlen(begun)) == 0)
		printf("%s\t%s\n", word, text);
}

void
completion_offer_values(const char *begun, const char *values)
{
	char word[64];

	while (islower((unsigned char)*values)) {
		size_t len = strcspn(values, "|");

		snprintf(word, sizeof word, "%.*s", (int)len, values);
		completion_offer(begun, word, "");
		values += len + (values[len] == '|');
	}
}

int
completion_answer(const char *program, char **words, int count, void (*offer)(char **words, int count))
{
	int skip = count > 1 && strcmp(words[1], "--") == 0 ? 2 : 1;

	if (count > 0 && strcmp(words[0], "words") == 0) {
		offer(words + skip, count - skip);
		return 0;
	}
	return count == 1 ? completion_print(words[0], program) : -ENOENT;
}
