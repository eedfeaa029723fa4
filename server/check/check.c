/* SPDX-License-Identifier: Apache-2.0 */
#include "server/check/check.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/common/text.h"
#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"
#include "server/limits.h"

enum {
	TIMEOUT_S_MAX = 3600,
	TEXT_BYTES = 600,
};

static const char *const state_names[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};

/* ---- a verdict: the worst that was found, and the words for it ---- */

struct verdict {
	enum check_state state;
	char text[TEXT_BYTES];
	const char *cure; /* what to type next; borrowed; NULL or "": nobody knows */
};

static void __attribute__((format(printf, 3, 4)))
find_fault(struct verdict *v, enum check_state state, const char *format, ...)
{
	va_list ap;

	if (state <= v->state)
		return; /* as bad is known already */
	v->state = state;
	va_start(ap, format);
	vsnprintf(v->text, sizeof v->text, format, ap);
	va_end(ap);
}

/* The text stands before the figures, and '|' parts them; host names and reasons come from outside. */
static void
print_clean(FILE *out, const char *text)
{
	while (*text != '\0') {
		size_t n = *text == '|' ? 0 : text_character(text, SIZE_MAX);

		fwrite(n > 0 ? text : " ", n > 0 ? n : 1, 1, out);
		text += n > 0 ? n : 1;
	}
}

/* ---- a source ---- */

static double
rpo_target_seconds(const json_t *source)
{
	const json_t *target = pick(source, "rpoTargetSeconds");

	return json_number_value(target) > 0 ? json_number_value(target) : RPO_TARGET_DEFAULT_S;
}

static void
judge_lag(const struct check *c, const json_t *source, struct verdict *v)
{
	const json_t *lag = pick(source, "lag.consistentSeconds");
	double seconds = json_number_value(lag), target = rpo_target_seconds(source);
	struct range warning = {.high = target}, critical = {.high = 2 * target};
	char age[UNITS_TEXT_BYTES];

	if (lag == NULL)
		return find_fault(v, CHECK_CRITICAL, "there is no point to recover from");
	if (c->warning_text != NULL)
		warning = c->warning;
	if (c->critical_text != NULL)
		critical = c->critical;
	duration_format((int64_t)(seconds * NS_PER_SECOND), age);
	if (range_alarms(&critical, seconds))
		find_fault(v, CHECK_CRITICAL, "the newest point is %s old", age);
	if (range_alarms(&warning, seconds))
		find_fault(v, CHECK_WARNING, "the newest point is %s old", age);
}

static void
judge_source(const struct check *c, const json_t *source, struct verdict *v)
{
	const char *state = pick_text(source, "dataReplicationInfo.dataReplicationState");
	const char *reason = pick_text(source, "dataReplicationInfo.stateReason");
	const char *error = pick_text(source, "dataReplicationInfo.dataReplicationError.rawError");
	int64_t since_ns = pick_time_ns(source, "dataReplicationInfo.stateSinceDateTime");
	char span[UNITS_TEXT_BYTES];

	v->cure = pick_text(source, "dataReplicationInfo.cure");
	duration_format(c->now_ns > since_ns && since_ns > 0 ? c->now_ns - since_ns : 0, span);
	if (strcmp(state, "STOPPED") == 0) /* by hand: to be remembered, not to wake anybody */
		return find_fault(v, CHECK_WARNING, "STOPPED for %s: %s", span, reason);
	if (!pick_bool(source, "ready"))
		find_fault(
		    v, CHECK_CRITICAL, "not ready: %s", pick_text(json_array_get(pick(source, "reasons"), 0), "text"));
	judge_lag(c, source, v);
	if (strcmp(state, "STALLED") == 0 || strcmp(state, "DISCONNECTED") == 0)
		find_fault(v, CHECK_WARNING, "%s for %s: %s", state, span, reason);
	if (error[0] != '\0') /* beside a state that is none of those */
		find_fault(v, CHECK_WARNING, "%s", error);
}

/* ---- the server ---- */

/* Also when one source is asked about: it may be the one that stands still. */
static void
judge_threads(const json_t *version, struct verdict *v)
{
	if (pick(version, "silentThread") == NULL)
		return;
	find_fault(v, CHECK_CRITICAL, "%s", pick_text(version, "silentThread.text"));
	v->cure = pick_text(version, "silentThread.cure");
}

static void
judge_area(const char *what, const json_t *area, struct verdict *v)
{
	const char *state = pick_text(area, "state");
	char left[UNITS_TEXT_BYTES];

	size_format((uint64_t)pick_integer(area, "freeBytes"), left);
	if (strcmp(state, "FULL") == 0)
		find_fault(v, CHECK_CRITICAL, "the %s is full: nothing more is taken", what);
	else if (area != NULL && strcmp(state, "OK") != 0)
		find_fault(v, CHECK_WARNING, "the %s has %s left", what, left);
}

static void
judge_server(const json_t *version, const json_t *sources, struct verdict *v)
{
	judge_area("staging area", pick(version, "stagingArea"), v);
	judge_area("journal area", pick(version, "journalArea"), v);
	if (pick_bool(version, "draining"))
		find_fault(v, CHECK_WARNING, "holdfastd is shutting down");
	if (json_array_size(sources) == 0)
		find_fault(v, CHECK_WARNING, "no source is enrolled");
}

/* ---- the answer: one line and its figures, then a line for each fault ---- */

/* 'label'=: quotes and '=' are the format's own. */
static void
print_label(const json_t *sources, const json_t *source, const char *what, FILE *out)
{
	const char *name = pick_source_name(source);

	if (name_is_shared(sources, name))
		name = pick_text(source, "sourceServerID");
	fputs(" '", out);
	for (; *name != '\0'; name++)
		fputc(strchr("'=|", *name) != NULL || (unsigned char)*name <= ' ' ? '_' : *name, out);
	fprintf(out, "_%s'=", what);
}

/* A lag that is not known has no figure: U, as the guidelines have it. */
static void
print_lag(const struct check *c, const json_t *source, FILE *out)
{
	const json_t *lag = pick(source, "lag.consistentSeconds");
	double target = rpo_target_seconds(source);

	if (lag == NULL) {
		fputc('U', out);
		return;
	}
	fprintf(out, "%.3fs;", json_number_value(lag));
	if (c->warning_text != NULL)
		fprintf(out, "%s;", c->warning_text);
	else
		fprintf(out, "%g;", target);
	if (c->critical_text != NULL)
		fprintf(out, "%s;0", c->critical_text);
	else
		fprintf(out, "%g;0", 2 * target);
}

static void
print_figures(const struct check *c, const json_t *version, const json_t *sources, FILE *out)
{
	const json_t *area = pick(version, "stagingArea");
	size_t i;
	json_t *source;

	fputs(" |", out);
	if (c->source == NULL)
		fprintf(out, " 'staging_free'=%lldB;;;0;%lld", (long long)pick_integer(area, "freeBytes"),
		    (long long)pick_integer(area, "totalBytes"));
	json_array_foreach (sources, i, source) {
		print_label(sources, source, "lag", out);
		print_lag(c, source, out);
		print_label(sources, source, "backlog", out);
		fprintf(out, "%lldB;;;0", (long long)pick_integer(source, "backlogBytes"));
	}
	fputc('\n', out);
}

/* One verdict a source, in their order, and then the server's. */
struct verdicts {
	size_t count, faults;
	struct verdict *all;
	const struct verdict *worst;
};

static void
judge_all(const struct check *c, const json_t *version, const json_t *sources, struct verdicts *v)
{
	size_t i;
	json_t *source;

	json_array_foreach (sources, i, source) {
		judge_source(c, source, &v->all[i]);
	}
	judge_threads(version, &v->all[i]);
	if (c->source == NULL)
		judge_server(version, sources, &v->all[i]);
	v->worst = &v->all[i]; /* the server's, where a source's is not worse */
	for (i = 0; i < v->count; i++) {
		v->faults += v->all[i].state != CHECK_OK;
		if (v->all[i].state > v->worst->state)
			v->worst = &v->all[i];
	}
}

static void
print_fault(const struct verdicts *v, const struct verdict *fault, const json_t *sources, FILE *out)
{
	const json_t *source = json_array_get(sources, (size_t)(fault - v->all));

	if (source != NULL)
		print_clean(out, pick_source_name(source));
	if (source != NULL)
		fprintf(out, " (%s): ", pick_text(source, "sourceServerID"));
	print_clean(out, fault->text);
}

static void
print_first_line(const struct verdicts *v, const json_t *sources, FILE *out)
{
	fprintf(out, "HOLDFAST %s - ", state_names[v->worst->state]);
	if (v->faults == 0)
		fprintf(out, "%zu of %zu sources ready", json_array_size(sources), json_array_size(sources));
	else
		print_fault(v, v->worst, sources, out);
	if (v->faults > 1)
		fprintf(out, " (and %zu more)", v->faults - 1);
}

static void
print_faults(const struct verdicts *v, const json_t *sources, FILE *out)
{
	for (size_t i = 0; i < v->count; i++) {
		if (v->all[i].state == CHECK_OK)
			continue;
		fprintf(out, "%s: ", state_names[v->all[i].state]);
		print_fault(v, &v->all[i], sources, out);
		if (v->all[i].cure != NULL && v->all[i].cure[0] != '\0') {
			fputs("; next: ", out);
			print_clean(out, v->all[i].cure);
		}
		fputc('\n', out);
	}
}

enum check_state
check_judge(const struct check *c, const json_t *version, const json_t *sources, FILE *out)
{
	struct verdicts v = {.count = json_array_size(sources) + 1};
	enum check_state state;

	v.all = calloc(v.count, sizeof *v.all);
	if (v.all == NULL)
		abort(); /* less than the JSON took */
	judge_all(c, version, sources, &v);
	print_first_line(&v, sources, out);
	print_figures(c, version, sources, out);
	print_faults(&v, sources, out);
	state = v.worst->state;
	free(v.all);
	return state;
}

/* ---- asking ---- */

/* What the client has to say of a server it cannot reach, on one line. It is the server's fault, unless we may not ask.
 */
static enum check_state
print_no_answer(int code, char *said)
{
	enum check_state state = code == EXIT_NOT_ALLOWED || code == EXIT_USAGE ? CHECK_UNKNOWN : CHECK_CRITICAL;

	if (said[0] != '\0')
		said[strlen(said) - 1] = '\0'; /* every word ends its line */
	printf("HOLDFAST %s - ", state_names[state]);
	print_clean(stdout, said);
	putchar('\n');
	return state;
}

static int
ask_sources(struct ctl *ctl, const struct check *c, json_t **ret_sources)
{
	json_t *source;
	int code;

	if (c->source == NULL)
		return client_list(ctl->client, ret_sources, "/v1/source-servers?");
	code = find_source(ctl, c->source, &source);
	if (code == EXIT_DONE)
		*ret_sources = json_pack("[o]", source);
	return code;
}

static int
ask(struct ctl *ctl, const struct check *c, json_t **ret_version, json_t **ret_sources)
{
	int code = client_create(ctl, &ctl->client);

	if (code == EXIT_DONE)
		code = client_get(ctl->client, ret_version, "/v1/version");
	if (code == EXIT_DONE && strcmp(pick_text(*ret_version, "program"), "holdfastd") != 0)
		code = ctl_fail(EXIT_FAILED, "what answers there is not holdfastd");
	if (code == EXIT_DONE)
		code = ask_sources(ctl, c, ret_sources);
	return code;
}

static enum check_state
look(struct check *c)
{
	struct ctl ctl = {.values = {[OPT_SOCKET] = c->socket, [OPT_TIMEOUT] = c->timeout_text}};
	json_t *version = NULL, *sources = NULL;
	enum check_state state;
	size_t said_bytes;
	char *said;
	FILE *out = open_memstream(&said, &said_bytes);
	int code;

	if (out == NULL)
		abort();
	ctl_say_to(out, "");
	code = ask(&ctl, c, &version, &sources);
	fclose(out);
	c->now_ns = clock_real_ns();
	state = code == EXIT_DONE ? check_judge(c, version, sources, stdout) : print_no_answer(code, said);
	client_destroy(ctl.client);
	json_decref(version);
	json_decref(sources);
	free(said);
	return state;
}

/* ---- the command line ---- */

/* Several answers may come, each in time, and all of them too late. */
static void
on_alarm(int number)
{
	static const char late[] = "HOLDFAST CRITICAL - holdfastd did not answer in time\n";

	(void)!write(STDOUT_FILENO, late, sizeof late - 1); /* the exit code says it, too */
	_exit(CHECK_CRITICAL);
}

static void
print_help(void)
{
	printf("Usage: check_holdfast [OPTION...]\n\n"
	       "Looks at a Holdfast staging server, for Nagios, Icinga and their like.\n\n"
	       "Options:\n"
	       "  -S, --socket PATH      the monitor socket, or its directory (/run/holdfast)\n"
	       "  -s, --source SOURCE    this source alone: id, beginning of one, or host name\n"
	       "  -w, --warning RANGE    seconds that the newest point may be old (RPO target)\n"
	       "  -c, --critical RANGE   the same (twice the RPO target)\n"
	       "  -t, --timeout SECONDS  no answer after so long is critical (10)\n"
	       "  -h, --help             this help\n"
	       "  -V, --version          the version of this program\n\n"
	       "Exit: 0 OK, 1 WARNING, 2 CRITICAL (also: no answer), 3 UNKNOWN (wrong use).\n"
	       "See check_holdfast(8).\n");
}

static int __attribute__((format(printf, 1, 2))) refuse(const char *format, ...)
{
	va_list ap;

	fputs("HOLDFAST UNKNOWN - ", stdout);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	fputs(" (check_holdfast --help)\n", stdout);
	return CHECK_UNKNOWN;
}

/* -1: go on. */
static int
check_options(struct check *c)
{
	int64_t timeout_ns;

	if (c->warning_text != NULL && range_parse(c->warning_text, &c->warning) < 0)
		return refuse("-w %s is no range", c->warning_text);
	if (c->critical_text != NULL && range_parse(c->critical_text, &c->critical) < 0)
		return refuse("-c %s is no range", c->critical_text);
	if (duration_parse(c->timeout_text, &timeout_ns) < 0 || timeout_ns < NS_PER_SECOND ||
	    timeout_ns > TIMEOUT_S_MAX * NS_PER_SECOND)
		return refuse("-t %s: 1 to %d seconds are wanted", c->timeout_text, TIMEOUT_S_MAX);
	c->timeout_s = (unsigned)(timeout_ns / NS_PER_SECOND);
	return -1;
}

#define LETTERS ":S:s:w:c:t:hV"

/* word: the last that getopt_long has read; of several letters in one (-vv) that is the word before. */
static int
refuse_unknown(const char *word)
{
	if (optopt != 0 && strchr(LETTERS, optopt) == NULL)
		return refuse("-%c means nothing here", optopt);
	return refuse("%s means nothing here", word);
}

static int
read_options(struct check *c, int argc, char **argv)
{
	static const struct option options[] = {
	    {"socket", required_argument, NULL, 'S'},
	    {"source", required_argument, NULL, 's'},
	    {"warning", required_argument, NULL, 'w'},
	    {"critical", required_argument, NULL, 'c'},
	    {"timeout", required_argument, NULL, 't'},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {0},
	};
	int letter;

	opterr = 0; /* one line, on the standard output */
	while ((letter = getopt_long(argc, argv, LETTERS, options, NULL)) != -1) {
		switch (letter) {
		case 'S': c->socket = optarg; break;
		case 's': c->source = optarg; break;
		case 'w': c->warning_text = optarg; break;
		case 'c': c->critical_text = optarg; break;
		case 't': c->timeout_text = optarg; break;
		case 'h': print_help(); return CHECK_OK;
		case 'V': printf("check_holdfast %s\n", HOLDFAST_VERSION); return CHECK_OK;
		case ':': return refuse("%s: its value is missing", argv[optind - 1]);
		default: return refuse_unknown(argv[optind - 1]);
		}
	}
	if (optind < argc)
		return refuse("\"%s\" is too much", argv[optind]);
	return check_options(c);
}

int
check_main(int argc, char **argv)
{
	struct check c = {.timeout_text = "10"};
	int code = read_options(&c, argc, argv);

	if (code >= 0)
		return code;
	signal(SIGALRM, on_alarm);
	signal(SIGPIPE, SIG_IGN);
	alarm(c.timeout_s);
	code = look(&c);
	return fflush(stdout) == 0 && !ferror(stdout) ? code : CHECK_UNKNOWN;
}
