/* SPDX-License-Identifier: Apache-2.0 */
/* options.h: the command line of holdfast-agent. */
#ifndef HF_AGENT_OPTIONS_H
#define HF_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/common/progress.h"
#include "proto/message.h"

enum command { COMMAND_ENROLL, COMMAND_RUN, COMMAND_STATUS, COMMAND_LIST_DISKS, COMMAND_THAW, COMMAND_COMPLETION };

/* Documented in holdfast-agent(8); new ones may be added. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_UNREACHABLE = 3, /* no server (enroll), no running agent (status) */
	EXIT_REFUSED = 5,     /* by the server: token, certificate, clone, version */
};

enum { OPTIONS_FREEZE_MAX = 32 };

struct options { /* texts are borrowed from argv */
	enum command command;
	const char *state_directory;
	bool json, yes, force, once;

	const char *servers; /* comma-separated */
	const char *token;
	const char *volumes[VOLUMES_MAX]; /* "NAME=PATH" */
	size_t volume_count;

	int64_t interval_ns, freeze_timeout_ns;
	uint64_t read_limit_bytes;
	const char *freeze[OPTIONS_FREEZE_MAX];
	size_t freeze_count;
	const char *new_disks; /* a pattern of paths; NULL = none */
	unsigned compressions; /* bits of enum frame_flag */
	enum progress_mode progress;
	int log_level;

	char **words; /* after `completion` */
	int word_count;
};

/* What there is; the parser, the help and the completion of a shell are made of it. */
struct command_spec {
	const char *name, *arguments, *summary;
};

struct option_spec {
	int id;
	unsigned commands;           /* 1u << enum command, of each that takes it */
	const char *name, *argument; /* argument NULL = takes none; "a|b": one of these */
	const char *help;
};

const struct command_spec *command_specs(int *ret_count); /* enum command is the index */
const struct option_spec *option_specs(int *ret_count);

/* Parse the command line. True: go on. False: leave with *ret_exit; help, version or what is wrong
 * was printed. */
bool options_parse(int argc, char **argv, struct options *ret_options, int *ret_exit);

#endif
