/* SPDX-License-Identifier: Apache-2.0 */
/* main.c: holdfast-agent, the sending side. See holdfast-agent(8). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/choose.h"
#include "agent/completion.h"
#include "agent/enroll.h"
#include "agent/options.h"
#include "agent/run.h"
#include "agent/say.h"
#include "agent/status.h"
#include "agent/thaw.h"

static int
run_command(const struct options *o)
{
	switch (o->command) {
	case COMMAND_ENROLL: return enroll_run(o);
	case COMMAND_RUN: return run_run(o);
	case COMMAND_STATUS: return status_run(o);
	case COMMAND_LIST_DISKS: return list_disks_run(o);
	case COMMAND_THAW: return thaw_run(o);
	case COMMAND_COMPLETION: return completion_run(o);
	}
	return EXIT_FAILED;
}

/* A pipe that broke or a full disk must not look like success. */
static int
finish_output(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	say("standard output: %s", strerror(errno));
	return code == EXIT_OK ? EXIT_FAILED : code;
}

int
main(int argc, char **argv)
{
	struct options o;
	int code;

	(void)signal(SIGPIPE, SIG_IGN); /* a server that hangs up is an error to handle, not an end */
	if (options_parse(argc, argv, &o, &code))
		code = run_command(&o);
	return finish_output(code);
}
