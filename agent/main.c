/* SPDX-License-Identifier: Apache-2.0 */
/* main.c: holdfast-agent, the sending side. See holdfast-agent(8). */
#include <signal.h>

#include "agent/choose.h"
#include "agent/enroll.h"
#include "agent/options.h"
#include "agent/run.h"
#include "agent/status.h"
#include "agent/thaw.h"

int
main(int argc, char **argv)
{
	struct options o;
	int code;

	(void)signal(SIGPIPE, SIG_IGN); /* a server that hangs up is an error to handle, not an end */
	if (!options_parse(argc, argv, &o, &code))
		return code;
	switch (o.command) {
	case COMMAND_ENROLL: return enroll_run(&o);
	case COMMAND_RUN: return run_run(&o);
	case COMMAND_STATUS: return status_run(&o);
	case COMMAND_LIST_DISKS: return list_disks_run(&o);
	case COMMAND_THAW: return thaw_run(&o);
	}
	return EXIT_FAILED;
}
