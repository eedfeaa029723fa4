/* SPDX-License-Identifier: Apache-2.0 */
/* completion.h: the scripts with which shells complete a command line of ours. They know nothing: at each Tab they ask
 * `PROGRAM completion words -- WORD...` what the last word may become after the others, and get a line for each: the
 * word, a tab, and what it is. Nothing to offer: the shell offers files. */
#ifndef HF_COMMON_COMPLETION_H
#define HF_COMMON_COMPLETION_H

#define COMPLETION_SHELLS "bash|zsh|fish"

/* The script of that shell, to stdout. -ENOENT: there is none for it. */
int completion_print(const char *shell, const char *program);

/* The whole of `PROGRAM completion WORD...`: a shell's script; or what offer() has to offer, given the words of a line,
 * of which the last is the one begun, and may be empty. -ENOENT: neither is asked for. */
int completion_answer(const char *program, char **words, int count, void (*offer)(char **words, int count));

/* A word that may stand there, to stdout, if it goes on what is begun. */
void completion_offer(const char *begun, const char *word, const char *text);

/* Each of "a|b"; nothing of what only names a value, as "TIME" does. */
void completion_offer_values(const char *begun, const char *values);

#endif
