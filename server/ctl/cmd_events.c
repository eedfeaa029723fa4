/* SPDX-License-Identifier: Apache-2.0 */
/* events: the NDJSON stream, line by line. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/text.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"

enum { LINE_BYTES_MAX = 65536 };

struct printer {
	bool json, tabs;
	size_t len;
	char line[LINE_BYTES_MAX];
};

/* Behind a tab, and without one in it. */
static void
print_field(const char *text)
{
	char *clean = text_copy(text);

	printf("\t%s", clean);
	free(clean);
}

static void
print_event(const struct printer *p, const json_t *event)
{
	const char *time = pick_text(event, "dateTime"), *source = pick_text(event, "sourceServerID");

	if (source[0] == '\0')
		source = "-";
	if (!p->tabs) {
		print_sentence(
		    4, "%s  %-19s  %s  %s", time, source, pick_text(event, "event"), pick_text(event, "text"));
		return;
	}
	printf("%s\t%s", time, source);
	print_field(pick_text(event, "event"));
	print_field(pick_text(event, "text"));
	putchar('\n');
}

static int
print_line(const struct printer *p)
{
	json_t *event;

	if (p->json) {
		printf("%s\n", p->line);
		return EXIT_DONE;
	}
	event = json_loads(p->line, 0, NULL);
	if (event == NULL)
		return ctl_fail(EXIT_FAILED, "an event is no JSON: %.100s", p->line);
	print_event(p, event);
	json_decref(event);
	return EXIT_DONE;
}

static int
take_byte(struct printer *p, unsigned char byte)
{
	if (byte != '\n') {
		if (p->len + 1 >= sizeof p->line)
			return ctl_fail(EXIT_FAILED, "an event is longer than %d bytes", LINE_BYTES_MAX);
		p->line[p->len++] = (char)byte;
		return EXIT_DONE;
	}
	p->line[p->len] = '\0';
	p->len = 0;
	return print_line(p);
}

static int
on_bytes(void *arg, const unsigned char *bytes, size_t len)
{
	int code = EXIT_DONE;

	for (size_t i = 0; i < len && code == EXIT_DONE; i++)
		code = take_byte(arg, bytes[i]);
	if (fflush(stdout) != 0 && code == EXIT_DONE)
		code = errno == EPIPE ? EXIT_FAILED : ctl_fail(EXIT_FAILED, "standard output: %m");
	return code;
}

static int
build_path(struct ctl *ctl, char *path, size_t size)
{
	const char *tail = ctl_given(ctl, OPT_TAIL) ? ctl->values[OPT_TAIL] : "100";
	json_t *source;
	int n, code;

	if (tail[0] == '\0' || strspn(tail, "0123456789") != strlen(tail) || atol(tail) > 100000)
		return ctl_fail(EXIT_USAGE, "--tail %s: a number up to 100000 is wanted; 0 for all", tail);
	n = snprintf(path, size, "/v1/events?tail=%s%s", tail, ctl_given(ctl, OPT_FOLLOW) ? "&follow=1" : "");
	if (!ctl_given(ctl, OPT_SOURCE))
		return EXIT_DONE;
	code = find_source(ctl, ctl->values[OPT_SOURCE], &source);
	if (code != EXIT_DONE)
		return code;
	snprintf(path + n, size - (size_t)n, "&sourceServerID=%s", pick_text(source, "sourceServerID"));
	json_decref(source);
	return EXIT_DONE;
}

int
run_events(struct ctl *ctl)
{
	static struct printer printer; /* too large for some stacks */
	struct client_stream stream = {.bytes = on_bytes, .arg = &printer};
	char path[160];
	int code = build_path(ctl, path, sizeof path);

	if (code != EXIT_DONE)
		return code;
	printer = (struct printer){.json = ctl_given(ctl, OPT_JSON), .tabs = ctl_given(ctl, OPT_NO_HEADER)};
	return client_stream(ctl->client, &stream, path);
}
