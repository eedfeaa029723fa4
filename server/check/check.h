/* SPDX-License-Identifier: Apache-2.0 */
/* check.h: check_holdfast: one look at a staging server for Nagios, Icinga, Zabbix and the like, in their form: a
 * state, a line, figures. A server that does not answer is critical, never unknown. */
#ifndef HF_CHECK_CHECK_H
#define HF_CHECK_CHECK_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "server/check/range.h"

enum check_state { /* the exit code */
	CHECK_OK = 0,
	CHECK_WARNING = 1,
	CHECK_CRITICAL = 2,
	CHECK_UNKNOWN = 3,
};

struct check {
	const char *socket, *source; /* NULL: the usual one; all of them */
	const char *warning_text,
	    *critical_text;             /* of the lag in seconds; NULL: the source's RPO target, and twice it */
	struct range warning, critical; /* the same, parsed */
	const char *timeout_text;
	unsigned timeout_s;
	int64_t now_ns; /* real clock */
};

/* Judge what /v1/version and a list of sources said, and write all that is to be printed. Returns the state. */
enum check_state check_judge(const struct check *c, const json_t *version, const json_t *sources, FILE *out);

/* Run a whole command line. Returns the exit code. */
int check_main(int argc, char **argv);

#endif
