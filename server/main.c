/* SPDX-License-Identifier: Apache-2.0 */
/* holdfastd: options, configuration, then server.h. */
#include <getopt.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "proto/common/log.h"
#include "server/config.h"
#include "server/preflight.h"
#include "server/server.h"

enum { EXIT_RUNTIME = 1, EXIT_USAGE = 64, EXIT_CONFIG = 78 }; /* sysexits.h */

static const char usage_text[] = "usage: holdfastd [-c FILE] [--log-level LEVEL] [--check-config | --print-config]\n"
				 "\n"
				 "  -c, --config FILE    configuration (" CONFIG_DEFAULT_PATH ", if there)\n"
				 "      --check-config   say every problem of it and what it names; exit 0 or 78\n"
				 "      --print-config   print the configuration that would be in effect\n"
				 "      --log-level L    err, warning, notice, info, debug\n"
				 "      --version        print the version\n"
				 "  -h, --help           print this\n"
				 "\n"
				 "Runs in the foreground. SIGTERM stops it in good order, SIGHUP has it read the\n"
				 "configuration again. See holdfastd(8), holdfastd.conf(5).\n";

struct options {
	struct config_origin origin;
	bool check, print;
	int exit_code; /* >= 0: nothing else to do */
};

enum { OPTION_CHECK = 256, OPTION_PRINT, OPTION_LOG_LEVEL, OPTION_VERSION };

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"check-config", no_argument, NULL, OPTION_CHECK},
    {"print-config", no_argument, NULL, OPTION_PRINT},
    {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void __attribute__((format(printf, 2, 3))) refuse(struct options *o, const char *format, ...)
{
	va_list ap;

	fputs("holdfastd: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputs(" (see holdfastd --help)\n", stderr);
	o->exit_code = EXIT_USAGE;
}

/* word: the last that getopt_long has read; of several letters in one (-xc) that is the word before. */
static void
refuse_option(struct options *o, int option, const char *word)
{
	if (option == ':')
		refuse(o, "%s wants a value", word);
	else if (optopt > 0 && optopt < OPTION_CHECK)
		refuse(o, "-%c means nothing here", optopt);
	else
		refuse(o, "%s means nothing here", word);
}

static void
take_option(struct options *o, int option, const char *word)
{
	switch (option) {
	case 'c': o->origin.path = optarg; return;
	case OPTION_CHECK: o->check = true; return;
	case OPTION_PRINT: o->print = true; return;
	case OPTION_LOG_LEVEL: o->origin.log_level = optarg; return;
	case OPTION_VERSION:
		printf("holdfastd %s\n", HOLDFAST_VERSION);
		o->exit_code = 0;
		return;
	case 'h':
		fputs(usage_text, stdout);
		o->exit_code = 0;
		return;
	default: refuse_option(o, option, word); return;
	}
}

static void
parse_options(int argc, char **argv, struct options *ret_options)
{
	struct options o = {.exit_code = -1};
	int option;

	opterr = 0;
	while (o.exit_code < 0 && (option = getopt_long(argc, argv, "+:c:h", long_options, NULL)) != -1)
		take_option(&o, option, argv[optind - 1]);
	if (o.exit_code < 0 && optind < argc)
		refuse(&o, "%s is one argument too many", argv[optind]);
	if (o.exit_code < 0 && o.origin.log_level != NULL && log_level_parse(o.origin.log_level) < 0)
		refuse(&o, "--log-level %s: one of err, warning, notice, info, debug", o.origin.log_level);
	*ret_options = o;
}

static int
run(const struct config *config, const struct config_origin *origin)
{
	struct server *sv;
	struct hf_error err;

	if (server_start(config, origin, &sv, &err) < 0) {
		log_err("start_failed", "msg=\"%s\"", err.text);
		return EXIT_RUNTIME;
	}
	server_run(sv);
	server_destroy(sv);
	log_notice("stopped", "msg=\"everything acknowledged is on disk\"");
	return 0;
}

/* Large arrays (the index of a segment, until it has a run) go back to the kernel when they are freed. By itself glibc
 * would raise the limit with the first of them, and keep the heap as large as it ever was. */
static void
keep_heap_small(void)
{
	(void)mallopt(M_MMAP_THRESHOLD, 512 * 1024);
}

int
main(int argc, char **argv)
{
	struct config config;
	struct options options;

	parse_options(argc, argv, &options);
	if (options.exit_code >= 0)
		return options.exit_code;
	if (config_load(&options.origin, &config, stderr) < 0)
		return EXIT_CONFIG;
	if (options.print)
		config_print(&config, stdout);
	if (options.check)
		return preflight(&config, stderr) < 0 ? EXIT_CONFIG : 0;
	if (options.print)
		return 0;
	keep_heap_small();
	return run(&config, &options.origin);
}
