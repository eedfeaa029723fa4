/* SPDX-License-Identifier: Apache-2.0 */
/* settings ...: what new sources begin with. source set, tag, untag: what of it is set of one. */
#include "server/settings.h"

#include <string.h>

#include "server/ctl/change.h"
#include "server/ctl/client.h"
#include "server/ctl/find.h"
#include "server/ctl/pick.h"

/* ---- show ---- */

static const struct table_column columns[] = {
    {"key", "KEY", false, false, 0},
    {"value", "VALUE", false, true, 0},
    {"set", "SET", false, false, 0},
    {"meaning", "MEANING", false, true, COLUMN_BELOW},
};

static bool
is_set(const json_t *answer, const char *name)
{
	json_t *set;
	size_t i;

	json_array_foreach (pick(answer, "set"), i, set) {
		if (strcmp(json_string_value(set), name) == 0)
			return true;
	}
	return false;
}

static void
add_row(struct table *t, const char *key, const char *value, bool set, const char *meaning)
{
	table_add_row(t);
	table_set(t, "key", key, NULL, MOOD_PLAIN);
	table_set(t, "value", value, NULL, MOOD_PLAIN);
	table_set(t, "set", set ? "yes" : "default", NULL, MOOD_PLAIN);
	table_set(t, "meaning", meaning, NULL, MOOD_PLAIN);
}

/* Of a daemon of another version there may be members that we do not know, or none that we do. */
static void
add_setting(struct table *t, const struct setting *s, const json_t *answer)
{
	json_t *one = json_object();
	char value[POLICY_TEXT_BYTES];
	struct settings settings;

	settings_default(&settings);
	json_object_set(one, s->name, json_object_get(answer, s->name));
	if (json_object_size(one) > 0 && settings_read(one, s->scope, &settings, NULL) == 0)
		add_row(t, s->key, settings_format(s, &settings, value), is_set(answer, s->name), s->meaning);
	json_decref(one);
}

static void
add_tags(struct table *t, const json_t *answer)
{
	json_t *tags = json_object_get(answer, "tags"), *value;
	char key[16 + TAG_KEY_BYTES];
	const char *name;

	json_object_foreach(tags, name, value)
	{
		snprintf(key, sizeof key, "tag %s", name);
		add_row(t, key, json_string_value(value), true, "a tag (holdfastctl settings tag)");
	}
}

/* Takes answer. */
static int
print_settings(const struct ctl *ctl, json_t *answer)
{
	size_t count;
	const struct setting *table = settings_table(&count);
	struct table *t;

	if (ctl_given(ctl, OPT_JSON))
		return print_json(answer);
	t = table_create(columns, sizeof columns / sizeof columns[0]);
	for (size_t i = 0; i < count; i++)
		add_setting(t, &table[i], answer);
	add_tags(t, answer);
	json_decref(answer);
	return print_table(ctl, t);
}

int
run_settings_show(struct ctl *ctl)
{
	json_t *answer;
	int code = client_get(ctl->client, &answer, "/v1/settings");

	return code == EXIT_DONE ? print_settings(ctl, answer) : code;
}

/* ---- what the words say ---- */

typedef int read_words(char **words, int count, json_t *patch, struct hf_error *err);

static int
read_settings(char **words, int count, enum settings_scope scope, json_t *patch, struct hf_error *err)
{
	int r = 0;

	for (int i = 0; i < count && r == 0; i++)
		r = settings_parse(words[i], scope, patch, err);
	return r;
}

static int
read_template(char **words, int count, json_t *patch, struct hf_error *err)
{
	return read_settings(words, count, SETTINGS_ALL, patch, err);
}

static int
read_of_source(char **words, int count, json_t *patch, struct hf_error *err)
{
	return read_settings(words, count, SETTINGS_OF_SOURCE, patch, err);
}

static int
read_tags(char **words, int count, json_t *patch, struct hf_error *err)
{
	json_t *tags = json_object();
	int r = 0;

	json_object_set_new(patch, "tags", tags);
	for (int i = 0; i < count && r == 0; i++)
		r = settings_parse_tag(words[i], tags, err);
	return r;
}

static int
read_keys(char **words, int count, json_t *patch, struct hf_error *err)
{
	json_t *tags = json_object();

	json_object_set_new(patch, "tags", tags);
	for (int i = 0; i < count; i++)
		if (json_object_set_new(tags, words[i], json_null()) < 0)
			return hf_error_say(err, -1, "\"%.200s\" is not UTF-8", words[i]);
	return 0;
}

/* Gives. */
static int
make_patch(read_words *read, char **words, int count, json_t **ret_patch)
{
	json_t *patch = json_object();
	struct hf_error err = {0};

	if (read(words, count, patch, &err) < 0) {
		json_decref(patch);
		return ctl_fail(EXIT_USAGE, "%s", err.text);
	}
	*ret_patch = patch;
	return EXIT_DONE;
}

/* ---- of sources to come ---- */

static int
change_template(struct ctl *ctl, read_words *read)
{
	json_t *patch, *answer;
	int code = make_patch(read, ctl->operands, ctl->operand_count, &patch);

	if (code == EXIT_DONE)
		code = client_change(ctl->client, "POST", patch, &answer, "/v1/settings");
	return code == EXIT_DONE ? print_settings(ctl, answer) : code;
}

int
run_settings_set(struct ctl *ctl)
{
	return change_template(ctl, read_template);
}

int
run_settings_tag(struct ctl *ctl)
{
	return change_template(ctl, read_tags);
}

int
run_settings_untag(struct ctl *ctl)
{
	return change_template(ctl, read_keys);
}

/* ---- of one ---- */

static int
patch_source(struct ctl *ctl, read_words *read)
{
	json_t *patch;
	int code = make_patch(read, ctl->operands + 1, ctl->operand_count - 1, &patch);

	return code == EXIT_DONE ? change_source(ctl, "settings", patch) : code;
}

int
run_source_set(struct ctl *ctl)
{
	return patch_source(ctl, read_of_source);
}

int
run_source_tag(struct ctl *ctl)
{
	return patch_source(ctl, read_tags);
}

int
run_source_untag(struct ctl *ctl)
{
	return patch_source(ctl, read_keys);
}
