/* SPDX-License-Identifier: Apache-2.0 */
/* arguments.h: the command line of holdfastd. */
#ifndef HF_SERVER_ARGUMENTS_H
#define HF_SERVER_ARGUMENTS_H

#include <stdbool.h>

#include "server/config.h"

enum { EXIT_RUNTIME = 1, EXIT_USAGE = 64, EXIT_CONFIG = 78 }; /* sysexits.h */

struct arguments {
	struct config_origin origin; /* its texts are those of argv */
	bool check, print;
};

/* False: there is nothing else to do, for it was answered (help, the version, completion) or refused on stderr, and the
 * process ends with *ret_code. */
bool arguments_parse(int argc, char **argv, struct arguments *ret_arguments, int *ret_code);

#endif
