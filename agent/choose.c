/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/choose.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "agent/disks.h"
#include "agent/say.h"
#include "proto/common/table.h"
#include "proto/common/terminal.h"
#include "proto/common/text.h"
#include "proto/common/units.h"

/* ---- showing disks ---- */

static const char *
remarks(const struct disk_info *d, char *buf, size_t size)
{
	snprintf(buf, size, "%s%s%s%s%s%s%s", d->boot_disk ? "boot " : "", d->removable ? "removable " : "",
	    d->read_only ? "read-only " : "", d->loop ? "loop " : "", d->ram ? "ram " : "", d->member ? "member " : "",
	    d->identity[0] == '\0' ? "no-identity " : "");
	if (buf[0] != '\0')
		buf[strlen(buf) - 1] = '\0';
	return buf;
}

static const struct table_column columns[] = {
    {"default", "", false, false, 0},
    {"number", "NO", true, false, 0},
    {"disk", "DISK", false, false, 0},
    {"size", "SIZE", true, false, 0},
    {"model", "MODEL", false, true, 3},
    {"identity", "IDENTITY", false, true, 2},
    {"remarks", "REMARKS", false, false, 0},
};

static void
add_row(struct table *t, int number, const struct disk_info *d)
{
	char size[UNITS_TEXT_BYTES], text[128], no[16];

	snprintf(no, sizeof no, "%d", number);
	table_add_row(t);
	table_set(t, "default", d->by_default ? "*" : "", NULL, MOOD_PLAIN);
	table_set(t, "number", no, NULL, MOOD_PLAIN);
	table_set(t, "disk", d->path, NULL, MOOD_PLAIN);
	table_set(t, "size", size_format(d->size_bytes, size), NULL, MOOD_PLAIN);
	table_set(t, "model", d->model, NULL, MOOD_PLAIN);
	table_set(t, "identity", d->identity, NULL, MOOD_PLAIN);
	table_set(t, "remarks", remarks(d, text, sizeof text), NULL, MOOD_PLAIN);
}

static void
print_table(FILE *to, const struct disk_info *disks, int count)
{
	const struct table_style style = {.header = true, .width = terminal_width(fileno(to))};
	struct table *t = table_create(columns, sizeof columns / sizeof columns[0]);

	for (int i = 0; i < count; i++)
		add_row(t, i + 1, &disks[i]);
	(void)table_print(t, &style, to, NULL); /* which fails only over columns that were asked for by name */
	table_destroy(t);
}

static void
print_json(const struct disk_info *disks, int count)
{
	json_t *items = json_array(), *root;

	for (int i = 0; i < count; i++) {
		const struct disk_info *d = &disks[i];

		json_array_append_new(
		    items, json_pack("{s:s, s:s, s:s, s:I, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b}", "deviceName",
			       d->path, "identity", d->identity, "model", d->model, "totalStorageBytes",
			       (json_int_t)d->size_bytes, "wholeDisk", d->whole_disk, "removable", d->removable,
			       "readOnly", d->read_only, "loop", d->loop, "ram", d->ram, "member", d->member,
			       "isBootDisk", d->boot_disk, "byDefault", d->by_default));
	}
	root = json_pack("{s:o}", "items", items);
	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

static struct disk_info *
get_disks(int *ret_count, struct hf_error *err)
{
	struct disk_info *disks = calloc(DISKS_MAX, sizeof *disks);
	int n = disks == NULL ? hf_error_set(err, -ENOMEM, "list disks") : disks_list("/sys", disks, DISKS_MAX, err);

	*ret_count = n;
	if (n >= 0)
		return disks;
	free(disks);
	return NULL;
}

int
list_disks_run(const struct options *o)
{
	struct hf_error err = {0};
	int count;
	struct disk_info *disks = get_disks(&count, &err);

	if (disks == NULL) {
		say("%s", err.text);
		return EXIT_FAILED;
	}
	if (o->json)
		print_json(disks, count);
	else
		print_table(stdout, disks, count);
	if (!o->json)
		fprintf(stderr, "* = replicated by default\n");
	free(disks);
	return EXIT_OK;
}

/* ---- choosing ---- */

static int
add_volume(struct state *st, const char *name, const struct disk_info *d, struct hf_error *err)
{
	struct state_volume *v = &st->volumes[st->volume_count];

	if (st->volume_count == VOLUMES_MAX)
		return hf_error_say(err, -EINVAL,
		    "a source has at most %d volumes: name those that matter with --volume NAME=PATH, or enrol no more "
		    "disks",
		    VOLUMES_MAX);
	if (name[0] == '\0' || strlen(name) >= sizeof v->name)
		return hf_error_say(err, -EINVAL, "a volume's name has 1 to %zu characters", sizeof v->name - 1);
	if (!text_is_plain(name, strlen(name)))
		return hf_error_say(err, -EINVAL, "a volume's name is UTF-8 without control characters");
	for (size_t i = 0; i < st->volume_count; i++)
		if (strcmp(st->volumes[i].name, name) == 0 || strcmp(st->volumes[i].identity, d->identity) == 0)
			return hf_error_say(err, -EINVAL,
			    "volumes %s (%s) and %s (%s) have the same name, or are the same disk "
			    "(%s)",
			    st->volumes[i].name, st->volumes[i].path, name, d->path, d->identity);
	snprintf(v->name, sizeof v->name, "%s", name);
	snprintf(v->identity, sizeof v->identity, "%s", d->identity);
	snprintf(v->path, sizeof v->path, "%s", d->path);
	v->size_bytes = d->size_bytes;
	st->volume_count++;
	return 0;
}

static int
add_named(struct state *st, const char *option, struct hf_error *err)
{
	const char *equals = strchr(option, '=');
	struct disk_info d;
	char name[NAME_BYTES];
	char *path;
	int r;

	if (equals == NULL || equals == option || (size_t)(equals - option) >= sizeof name)
		return hf_error_say(err, -EINVAL, "--volume is NAME=PATH, not '%s'", option);
	snprintf(name, sizeof name, "%.*s", (int)(equals - option), option);
	path = realpath(equals + 1, NULL);
	if (path == NULL)
		return hf_error_set(err, -errno, "volume %s: %s", name, equals + 1);
	r = disks_identify(path, &d, err);
	free(path);
	return r < 0 ? hf_error_prefix(err, "volume %s", name) : add_volume(st, name, &d, err);
}

static int
add_disk(struct state *st, struct disk_info *d, struct hf_error *err)
{
	char copy[PATH_BYTES];

	if (d->identity[0] == '\0')
		return hf_error_say(err, -EINVAL,
		    "%s has no stable identity (no WWN, serial number or partition table) and "
		    "cannot be replicated",
		    d->path);
	snprintf(copy, sizeof copy, "%s", d->path);
	return add_volume(st, basename(copy), d, err);
}

static int
add_defaults(struct state *st, struct disk_info *disks, int count, struct hf_error *err)
{
	int r = 0;

	for (int i = 0; i < count && r == 0; i++)
		if (disks[i].by_default)
			r = add_disk(st, &disks[i], err);
	if (r == 0 && st->volume_count == 0)
		return hf_error_say(
		    err, -EINVAL, "no disk here is replicated by default; name some: --volume NAME=PATH");
	return r;
}

static int
add_numbers(struct state *st, struct disk_info *disks, int count, char *line, struct hf_error *err)
{
	char *rest = line, *one;
	int r = 0;

	while (r == 0 && (one = strsep(&rest, " ,\n")) != NULL) {
		long number = strtol(one, NULL, 10);

		if (*one == '\0')
			continue;
		if (number < 1 || number > count)
			return hf_error_say(err, -EINVAL, "'%s' is not one of the numbers 1 to %d", one, count);
		r = add_disk(st, &disks[number - 1], err);
	}
	return r;
}

/* The table and the question go to stderr: stdout is for the result. */
static int
ask(struct state *st, struct disk_info *disks, int count, struct hf_error *err)
{
	char line[1024];

	print_table(stderr, disks, count);
	for (;;) {
		int r;

		fprintf(stderr, "Replicate which? Enter = those with *, or numbers: ");
		if (fgets(line, sizeof line, stdin) == NULL) {
			fputc('\n', stderr); /* behind the question */
			return hf_error_say(err, -EINVAL, "nothing was chosen");
		}
		r = line[0] == '\n' ? add_defaults(st, disks, count, err) : add_numbers(st, disks, count, line, err);
		if (r == 0 && st->volume_count > 0)
			return 0;
		st->volume_count = 0;
		terminal_say(stderr, "", r < 0 ? err->text : "Nothing was chosen.");
	}
}

static int
choose_disks(const struct options *o, struct state *st, struct hf_error *err)
{
	bool terminal = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
	struct disk_info *disks;
	int count, r;

	if (!o->yes && !terminal)
		return hf_error_say(err, -EINVAL,
		    "which disks? Name them with --volume NAME=PATH, or take the default ones with "
		    "--yes (see: holdfast-agent "
		    "list-disks)");
	disks = get_disks(&count, err);
	if (disks == NULL)
		return err->code;
	r = o->yes ? add_defaults(st, disks, count, err) : ask(st, disks, count, err);
	free(disks);
	return r;
}

int
choose_volumes(const struct options *o, struct state *st, struct hf_error *err)
{
	int r = 0;

	if (o->volume_count == 0 && st->volume_count > 0)
		return 0;
	st->volume_count = 0;
	if (o->volume_count == 0)
		return choose_disks(o, st, err);
	for (size_t i = 0; i < o->volume_count && r == 0; i++)
		r = add_named(st, o->volumes[i], err);
	return r;
}
