/* SPDX-License-Identifier: Apache-2.0 */
/* ctl.h: one run of holdfastctl: which command, with what, and how it may end. Single-threaded; errors go to stderr as
 * soon as they are known, results to stdout; what a command returns is the exit code. */
#ifndef HF_CTL_CTL_H
#define HF_CTL_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes: an interface, see holdfastctl(1). */
enum ctl_exit {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_UNREACHABLE = 3,
	EXIT_NOT_FOUND = 4,
	EXIT_NOT_ALLOWED = 5,
	EXIT_NOT_MET = 6,
	EXIT_DAMAGED = 7,
	EXIT_INTERRUPTED = 130,
};

enum option_id {
	OPT_JSON,
	OPT_NO_HEADER,
	OPT_EXACT,
	OPT_COLUMNS,
	OPT_SOCKET,
	OPT_TIMEOUT,
	OPT_YES,
	OPT_PROGRESS,
	OPT_NO_PROGRESS,
	OPT_COLOR,
	OPT_HELP,
	OPT_VERSION,
	OPT_NAME,
	OPT_NEWEST,
	OPT_AT,
	OPT_FUZZY,
	OPT_VOLUME,
	OPT_OUTPUT,
	OPT_FORCE,
	OPT_DATA_DIR,
	OPT_MAX_LAG,
	OPT_SOURCE,
	OPT_LIFETIME,
	OPT_ADDRESS,
	OPT_FOLLOW,
	OPT_TAIL,
	OPT_VERIFY,
	OPT_WAIT,
	OPT_WITH_POINTS,
	OPT_WHEN_FULL,
	OPT_DATA,
	OPT_ALL,
	OPT_SALVAGE,
	OPT_JOURNAL_WINDOW,
	OPT_MIN_RETENTION,
	OPT_POLICY,
	OPT_TAG,
	OPT_PASSPHRASE_FILE,
	OPT_FOR,
	OPTIONS,
};

struct ctl;

struct command {
	const char *noun, *verb; /* verb NULL: the noun alone */
	const char *operands;    /* "SOURCE", "[SOURCE]", "POINT...": as shown; "" = none */
	int operands_min, operands_max;
	const char *summary;
	uint64_t options; /* bits of option_id; the global ones are always allowed */
	int (*run)(struct ctl *ctl);
};

struct client;

struct ctl {
	const struct command *command;
	const char *values[OPTIONS]; /* NULL: not given; "": given, takes no value */
	char **operands;
	int operand_count;
	struct client *client;
};

#define OPT_BIT(id) (UINT64_C(1) << (id))

/* Every command there is, in the order of the help. Static memory. */
const struct command *ctl_commands(size_t *ret_count);

static inline bool
ctl_given(const struct ctl *ctl, enum option_id id)
{
	return ctl->values[id] != NULL;
}

/* Say "holdfastctl: FORMAT" on stderr. Returns code, so that a command can end with it. */
int ctl_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* It is in vain to go on with the others: holdfastd is gone, we may not ask, or nobody wants it any more. */
bool ctl_is_hopeless(int code);

/* A remark on stderr: what was chosen, what to do next. */
void ctl_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From now on both say it there (borrowed), after this prefix (borrowed) instead of "holdfastctl: ". NULL, NULL: as at
 * the beginning. */
void ctl_say_to(FILE *out, const char *prefix);

/* Before something that cannot be undone: show what will go, and ask. True: go on. Without a terminal --yes must be
 * given; says why not. */
bool ctl_confirm(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same before something large: on a terminal the name itself must be typed. */
bool ctl_confirm_name(const struct ctl *ctl, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Once, before anything that may take long: SIGINT and SIGTERM are noticed, SIGPIPE is ignored. */
void ctl_catch_signals(void);

/* SIGINT or SIGTERM has come. */
bool ctl_interrupted(void);

/* Run a whole command line. Returns the exit code. */
int ctl_main(int argc, char **argv);

/* ---- the commands ---- */
int run_status(struct ctl *ctl);
int run_ready(struct ctl *ctl);
int run_wait(struct ctl *ctl);
int run_doctor(struct ctl *ctl);
int run_source_list(struct ctl *ctl);
int run_source_show(struct ctl *ctl);
int run_source_set(struct ctl *ctl);
int run_source_tag(struct ctl *ctl);
int run_source_untag(struct ctl *ctl);
int run_source_adopt(struct ctl *ctl);
int run_source_revoke(struct ctl *ctl);
int run_source_pause(struct ctl *ctl);
int run_source_resume(struct ctl *ctl);
int run_source_stop(struct ctl *ctl);
int run_source_start(struct ctl *ctl);
int run_source_delete(struct ctl *ctl);
int run_volume_list(struct ctl *ctl);
int run_volume_delete(struct ctl *ctl);
int run_verify(struct ctl *ctl);
int run_pit_list(struct ctl *ctl);
int run_pit_create(struct ctl *ctl);
int run_pit_hold(struct ctl *ctl);
int run_pit_release(struct ctl *ctl);
int run_pit_delete(struct ctl *ctl);
int run_pit_plan(struct ctl *ctl);
int run_scrub_start(struct ctl *ctl);
int run_scrub_status(struct ctl *ctl);
int run_scrub_cancel(struct ctl *ctl);
int run_policy_show(struct ctl *ctl);
int run_policy_set(struct ctl *ctl);
int run_retention_freeze(struct ctl *ctl);
int run_retention_thaw(struct ctl *ctl);
int run_settings_show(struct ctl *ctl);
int run_settings_set(struct ctl *ctl);
int run_settings_tag(struct ctl *ctl);
int run_settings_untag(struct ctl *ctl);
int run_quota_list(struct ctl *ctl);
int run_quota_set(struct ctl *ctl);
int run_throttle_show(struct ctl *ctl);
int run_throttle_set(struct ctl *ctl);
int run_token_create(struct ctl *ctl);
int run_token_list(struct ctl *ctl);
int run_token_revoke(struct ctl *ctl);
int run_cert_list(struct ctl *ctl);
int run_reload(struct ctl *ctl);
int run_audit(struct ctl *ctl);
int run_cert_renew(struct ctl *ctl);
int run_ca_show(struct ctl *ctl);
int run_ca_rotate(struct ctl *ctl);
int run_ca_retire(struct ctl *ctl);
int run_identity_backup(struct ctl *ctl);
int run_identity_restore(struct ctl *ctl);
int run_events(struct ctl *ctl);
int run_export_file(struct ctl *ctl);
int run_fsck(struct ctl *ctl);
int run_completion(struct ctl *ctl);
int run_completion_words(struct ctl *ctl);

#endif
