/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands, and a run of one. */
#include "server/ctl/ctl.h"

#include <limits.h>
#include <locale.h>

#include "proto/common/completion.h"
#include "server/ctl/client.h"
#include "server/ctl/options.h"
#include "server/throttle.h"
#include "storage/policy.h"

#define TABLE (OPT_BIT(OPT_NO_HEADER) | OPT_BIT(OPT_EXACT) | OPT_BIT(OPT_COLUMNS))

enum { WORDS_MAX = 64 };

static const struct command commands[] = {
    {"status", NULL, "", 0, 0, "the server and all sources: state, Ready, lag (the default)", TABLE | OPT_BIT(OPT_TAG),
	run_status},
    {"ready", NULL, "SOURCE", 1, 1, "may it be recovered now? exit 0: yes, 6: no, with reasons", OPT_BIT(OPT_MAX_LAG),
	run_ready},
    {"wait", NULL, "SOURCE", 1, 1, "until something is true of it. exit 0: it is, 6: not within --timeout",
	OPT_BIT(OPT_FOR) | OPT_BIT(OPT_PROGRESS) | OPT_BIT(OPT_NO_PROGRESS), run_wait},
    {"doctor", NULL, "[DIR]", 0, 1, "what is wrong with this staging server. exit 0: nothing, 6: findings", 0,
	run_doctor},
    {"source", "list", "", 0, 0, "the protected machines", TABLE | OPT_BIT(OPT_TAG), run_source_list},
    {"source", "show", "SOURCE", 1, 1, "all that is known of one", 0, run_source_show},
    {"source", "set", "SOURCE KEY=VALUE...", 2, WORDS_MAX, "rpo-target=15m, auto-replicate-new-disks=off", 0,
	run_source_set},
    {"source", "tag", "SOURCE KEY=VALUE...", 2, WORDS_MAX, "give it tags, for people and scripts", 0, run_source_tag},
    {"source", "untag", "SOURCE KEY...", 2, WORDS_MAX, "take tags from it", 0, run_source_untag},
    {"source", "adopt", "SOURCE", 1, 1, "accept the next installation that claims to be it", OPT_BIT(OPT_YES),
	run_source_adopt},
    {"source", "revoke", "SOURCE", 1, 1, "revoke its certificates and cut its session", OPT_BIT(OPT_YES),
	run_source_revoke},
    {"source", "pause", "SOURCE", 1, 1, "take nothing of it; its agent stays connected", 0, run_source_pause},
    {"source", "resume", "SOURCE", 1, 1, "go on after a pause", 0, run_source_resume},
    {"source", "stop", "SOURCE", 1, 1, "let its agent in no longer; its points stay", OPT_BIT(OPT_YES),
	run_source_stop},
    {"source", "start", "SOURCE", 1, 1, "let its agent in again", 0, run_source_start},
    {"source", "delete", "SOURCE", 1, 1, "delete it, with all its points",
	OPT_BIT(OPT_YES) | OPT_BIT(OPT_WAIT) | OPT_BIT(OPT_PROGRESS) | OPT_BIT(OPT_NO_PROGRESS), run_source_delete},
    {"verify", NULL, "SOURCE", 1, 1, "compare it with its source, every block",
	OPT_BIT(OPT_VOLUME) | OPT_BIT(OPT_WAIT) | OPT_BIT(OPT_PROGRESS) | OPT_BIT(OPT_NO_PROGRESS), run_verify},
    {"volume", "list", "[SOURCE]", 0, 1, "the disks of a source, or of all", TABLE, run_volume_list},
    {"volume", "delete", "SOURCE VOLUME", 2, 2, "delete a disk that it no longer has",
	OPT_BIT(OPT_YES) | OPT_BIT(OPT_WITH_POINTS), run_volume_delete},
    {"pit", "list", "[SOURCE]", 0, 1, "points in time of a source, or of all", TABLE | OPT_BIT(OPT_DATA_DIR),
	run_pit_list},
    {"pit", "create", "SOURCE", 1, 1, "make a point now, and keep it", OPT_BIT(OPT_NAME) | OPT_BIT(OPT_NEWEST),
	run_pit_create},
    {"pit", "hold", "POINT", 1, 1, "never let it expire", 0, run_pit_hold},
    {"pit", "release", "POINT", 1, 1, "let the policy decide about it again", 0, run_pit_release},
    {"pit", "delete", "POINT", 1, 1, "delete it", OPT_BIT(OPT_YES), run_pit_delete},
    {"pit", "plan", "SOURCE", 1, 1, "which points another policy would keep, and what it would free",
	TABLE | OPT_BIT(OPT_POLICY), run_pit_plan},
    {"scrub", "start", "[SOURCE]", 0, 1, "read all that is stored and compare it with its digests",
	OPT_BIT(OPT_ALL) | OPT_BIT(OPT_WAIT) | OPT_BIT(OPT_PROGRESS) | OPT_BIT(OPT_NO_PROGRESS), run_scrub_start},
    {"scrub", "status", "[SOURCE]", 0, 1, "when that was done, and what is damaged", TABLE, run_scrub_status},
    {"scrub", "cancel", "[SOURCE]", 0, 1, "give it up", OPT_BIT(OPT_ALL), run_scrub_cancel},
    {"policy", "show", "SOURCE", 1, 1, "which points it keeps, and for how long", TABLE, run_policy_show},
    {"policy", "set", "SOURCE [RULE...|none]", 1, 1 + PIT_RULES_MAX,
	"rules as in 10m/60m 1h/24h 1d/7d: one every, kept for",
	OPT_BIT(OPT_JOURNAL_WINDOW) | OPT_BIT(OPT_MIN_RETENTION), run_policy_set},
    {"retention", "freeze", "[SOURCE]", 0, 1, "stop all expiry of its points at once", OPT_BIT(OPT_ALL),
	run_retention_freeze},
    {"retention", "thaw", "[SOURCE]", 0, 1, "let points expire again, and believe the clock", OPT_BIT(OPT_ALL),
	run_retention_thaw},
    {"settings", "show", "", 0, 0, "what new sources begin with", TABLE, run_settings_show},
    {"settings", "set", "KEY=VALUE...", 1, WORDS_MAX, "change it; sources that are there stay as they are", 0,
	run_settings_set},
    {"settings", "tag", "KEY=VALUE...", 1, WORDS_MAX, "tags that new sources are given", 0, run_settings_tag},
    {"settings", "untag", "KEY...", 1, WORDS_MAX, "and are given no longer", 0, run_settings_untag},
    {"quota", "list", "", 0, 0, "what each source takes of the staging area, and what it may", TABLE, run_quota_list},
    {"quota", "set", "SOURCE [SIZE|none]", 1, 2, "the most it may take, and what goes when there is no room",
	OPT_BIT(OPT_WHEN_FULL), run_quota_set},
    {"throttle", "show", "[SOURCE]", 0, 1, "how fast sources may be read, and how long they waited for it", TABLE,
	run_throttle_show},
    {"throttle", "set", "SOURCE MBPS|none [WINDOW...]", 2, 2 + THROTTLE_WINDOWS_MAX,
	"how fast it may be read; windows as in 'Mon-Fri 08:00-18:00 20'", 0, run_throttle_set},
    {"token", "create", "", 0, 0, "print the line that enrols a machine",
	OPT_BIT(OPT_SOURCE) | OPT_BIT(OPT_LIFETIME) | OPT_BIT(OPT_ADDRESS), run_token_create},
    {"token", "list", "", 0, 0, "tokens that were made, never their secrets", TABLE, run_token_list},
    {"token", "revoke", "TOKEN", 1, 1, "make a token useless", 0, run_token_revoke},
    {"cert", "list", "", 0, 0, "certificates, and when they expire", TABLE, run_cert_list},
    {"cert", "renew", "[server|SOURCE]", 0, 1, "renew the server's now, or have an agent renew its own", 0,
	run_cert_renew},
    {"ca", "show", "", 0, 0, "the CA certificate and its fingerprint", 0, run_ca_show},
    {"ca", "rotate", "", 0, 0, "make the next CA; agents take it, and trust both meanwhile", 0, run_ca_rotate},
    {"ca", "retire", "", 0, 0, "let the old CA go, when no agent needs it any more",
	OPT_BIT(OPT_FORCE) | OPT_BIT(OPT_YES), run_ca_retire},
    {"identity", "backup", "FILE", 1, 1, "the CA, and who is enrolled, encrypted: against the loss of this server",
	OPT_BIT(OPT_PASSPHRASE_FILE) | OPT_BIT(OPT_FORCE), run_identity_backup},
    {"identity", "restore", "FILE", 1, 1, "make an empty directory the staging area of those agents",
	OPT_BIT(OPT_PASSPHRASE_FILE) | OPT_BIT(OPT_DATA_DIR), run_identity_restore},
    {"audit", NULL, "", 0, 0, "who asked for what, and what came of it",
	TABLE | OPT_BIT(OPT_TAIL) | OPT_BIT(OPT_VERIFY), run_audit},
    {"reload", NULL, "", 0, 0, "have holdfastd read its configuration and certificate again", 0, run_reload},
    {"events", NULL, "", 0, 0, "what happened, oldest first",
	OPT_BIT(OPT_FOLLOW) | OPT_BIT(OPT_TAIL) | OPT_BIT(OPT_SOURCE) | OPT_BIT(OPT_NO_HEADER), run_events},
    {"export", "file", "SOURCE", 1, 1, "write a volume at a point in time into a file",
	OPT_BIT(OPT_VOLUME) | OPT_BIT(OPT_AT) | OPT_BIT(OPT_FUZZY) | OPT_BIT(OPT_OUTPUT) | OPT_BIT(OPT_FORCE) |
	    OPT_BIT(OPT_PROGRESS) | OPT_BIT(OPT_NO_PROGRESS) | OPT_BIT(OPT_DATA_DIR) | OPT_BIT(OPT_SALVAGE),
	run_export_file},
    {"fsck", NULL, "DIR [SOURCE]", 1, 2,
	"check a staging area at rest; changes nothing. exit 0: clean, 1: findings, 2: not checked", OPT_BIT(OPT_DATA),
	run_fsck},
    {"completion", "words", "[WORD...]", 0, INT_MAX, "what the last WORD may become; the shells' scripts ask this", 0,
	run_completion_words},
    {"completion", NULL, COMPLETION_SHELLS, 1, 1, "print the script that completes commands in that shell", 0,
	run_completion},
};

const struct command *
ctl_commands(size_t *ret_count)
{
	*ret_count = sizeof commands / sizeof commands[0];
	return commands;
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
	ctl_catch_signals();
	code = client_create(&ctl, &ctl.client);
	if (code == EXIT_DONE)
		code = ctl.command->run(&ctl);
	client_destroy(ctl.client);
	return finish_output(code);
}
