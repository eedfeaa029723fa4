/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands, and what all of them share. */
#include "server/ctl/ctl.h"

#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "server/ctl/client.h"
#include "server/ctl/options.h"

#define TABLE (OPT_BIT(OPT_NO_HEADER) | OPT_BIT(OPT_EXACT) | OPT_BIT(OPT_COLUMNS))

static const struct command commands[] = {
    {"status", NULL, "", 0, 0, "the server and all sources: state, Ready, lag (the default)", TABLE, run_status},
    {"ready", NULL, "SOURCE", 1, 1, "may it be recovered now? exit 0: yes, 6: no, with reasons", OPT_BIT(OPT_MAX_LAG),
	run_ready},
    {"source", "list", "", 0, 0, "the protected machines", TABLE, run_source_list},
    {"source", "show", "SOURCE", 1, 1, "all that is known of one", 0, run_source_show},
    {"source", "adopt", "SOURCE", 1, 1, "accept the next installation that claims to be it", OPT_BIT(OPT_YES),
	run_source_adopt},
    {"source", "revoke", "SOURCE", 1, 1, "revoke its certificates and cut its session", OPT_BIT(OPT_YES),
	run_source_revoke},
    {"volume", "list", "[SOURCE]", 0, 1, "the disks of a source, or of all", TABLE, run_volume_list},
    {"pit", "list", "[SOURCE]", 0, 1, "points in time of a source, or of all", TABLE | OPT_BIT(OPT_DATA_DIR),
	run_pit_list},
    {"pit", "create", "SOURCE", 1, 1, "make a point now, and keep it", OPT_BIT(OPT_NAME) | OPT_BIT(OPT_NEWEST),
	run_pit_create},
    {"pit", "hold", "POINT", 1, 1, "never let it expire", 0, run_pit_hold},
    {"pit", "release", "POINT", 1, 1, "let the policy decide about it again", 0, run_pit_release},
    {"pit", "delete", "POINT", 1, 1, "delete it", OPT_BIT(OPT_YES), run_pit_delete},
    {"token", "create", "", 0, 0, "print the line that enrols a machine",
	OPT_BIT(OPT_SOURCE) | OPT_BIT(OPT_LIFETIME) | OPT_BIT(OPT_ADDRESS), run_token_create},
    {"token", "list", "", 0, 0, "tokens that were made, never their secrets", TABLE, run_token_list},
    {"token", "revoke", "TOKEN", 1, 1, "make a token useless", 0, run_token_revoke},
    {"ca", "show", "", 0, 0, "the CA certificate and its fingerprint", 0, run_ca_show},
    {"events", NULL, "", 0, 0, "what happened, oldest first",
	OPT_BIT(OPT_FOLLOW) | OPT_BIT(OPT_TAIL) | OPT_BIT(OPT_SOURCE) | OPT_BIT(OPT_NO_HEADER), run_events},
    {"export", "file", "SOURCE", 1, 1, "write a volume at a point in time into a file",
	OPT_BIT(OPT_VOLUME) | OPT_BIT(OPT_AT) | OPT_BIT(OPT_FUZZY) | OPT_BIT(OPT_OUTPUT) | OPT_BIT(OPT_FORCE) |
	    OPT_BIT(OPT_PROGRESS) | OPT_BIT(OPT_NO_PROGRESS) | OPT_BIT(OPT_DATA_DIR),
	run_export_file},
};

const struct command *
ctl_commands(size_t *ret_count)
{
	*ret_count = sizeof commands / sizeof commands[0];
	return commands;
}

/* ---- words to people ---- */

static void
say(const char *format, va_list ap)
{
	fflush(stdout);
	fputs("holdfastctl: ", stderr);
	vfprintf(stderr, format, ap);
	fputc('\n', stderr);
}

int
ctl_fail(int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap);
	va_end(ap);
	return code;
}

void
ctl_note(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap);
	va_end(ap);
}

bool
ctl_confirm(const struct ctl *ctl, const char *format, ...)
{
	char answer[16];
	va_list ap;

	if (ctl_given(ctl, OPT_YES))
		return true;
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
		fprintf(stderr, "\nholdfastctl: nothing was done: without a terminal this needs --yes\n");
		return false;
	}
	fprintf(stderr, " Go on? [y/N] ");
	if (fgets(answer, sizeof answer, stdin) != NULL && (strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0))
		return true;
	fprintf(stderr, "holdfastctl: nothing was done\n");
	return false;
}

/* ---- signals ---- */

static volatile sig_atomic_t interrupted;

bool
ctl_interrupted(void)
{
	return interrupted != 0;
}

static void
on_signal(int number)
{
	interrupted = 1;
}

static void
catch_signals(void)
{
	struct sigaction catch = {
	    .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}; /* a second one ends us at once */

	sigaction(SIGINT, &catch, NULL);
	sigaction(SIGTERM, &catch, NULL);
	signal(SIGPIPE, SIG_IGN); /* a write says EPIPE */
}

/* ---- a run ---- */

/* A pipe that broke or a full disk must not look like success. */
static int
finish_output(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	return code == EXIT_DONE ? ctl_fail(EXIT_FAILED, "standard output: %m") : code;
}

int
ctl_main(int argc, char **argv)
{
	struct ctl ctl = {0};
	int code;

	setlocale(LC_CTYPE, "");
	code = options_parse(&ctl, argc, argv);
	if (code >= 0)
		return finish_output(code);
	catch_signals();
	code = client_create(&ctl, &ctl.client);
	if (code == EXIT_DONE)
		code = ctl.command->run(&ctl);
	client_destroy(ctl.client);
	return finish_output(code);
}
