/* SPDX-License-Identifier: Apache-2.0 */
/* holdfastd: arguments, configuration, then server.h. */
#include <malloc.h>
#include <stdio.h>

#include "proto/common/log.h"
#include "server/arguments.h"
#include "server/config.h"
#include "server/preflight.h"
#include "server/server.h"

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
	struct arguments arguments;
	int code;

	if (!arguments_parse(argc, argv, &arguments, &code))
		return code;
	if (config_load(&arguments.origin, &config, stderr) < 0)
		return EXIT_CONFIG;
	if (arguments.print)
		config_print(&config, stdout);
	if (arguments.check)
		return preflight(&config, stderr) < 0 ? EXIT_CONFIG : 0;
	if (arguments.print)
		return 0;
	keep_heap_small();
	return run(&config, &arguments.origin);
}
