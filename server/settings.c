/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind of value has four ways: between a field of struct settings and JSON, and between the field and what people
 * type. Whatever comes from outside has been through the field. */
#include "server/settings.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common/text.h"
#include "proto/common/units.h"
#include "server/throttle.h"

#define SECONDS_MAX (1e10 / 2) /* in ns it fits an int64_t, with room to add */

struct setting_kind {
	int (*take)(const char *name, const json_t *value, void *field, struct hf_error *err);
	json_t *(*give)(const void *field);
	int (*parse)(const char *text, void *field);
	void (*format)(const void *field, char *buf); /* POLICY_TEXT_BYTES */
};

/* ---- numbers as one types them: in the largest unit that says them exactly ---- */

struct unit {
	uint64_t size;
	const char *name;
};

static const struct unit spans[] = {
    {86400 * NS_PER_SECOND, "d"},
    {3600 * NS_PER_SECOND, "h"},
    {60 * NS_PER_SECOND, "m"},
    {NS_PER_SECOND, "s"},
    {NS_PER_SECOND / 1000, "ms"},
};

static const struct unit sizes[] = {
    {UINT64_C(1) << 40, "TiB"},
    {1 << 30, "GiB"},
    {1 << 20, "MiB"},
    {1 << 10, "KiB"},
    {1, ""},
};

static void
format_exactly(uint64_t n, const struct unit *units, size_t count, char *buf)
{
	while (count > 1 && (n == 0 || n % units->size != 0)) {
		units++;
		count--;
	}
	snprintf(buf, POLICY_TEXT_BYTES, "%" PRIu64 "%s", n / units->size, n == 0 ? "" : units->name);
}

/* ---- rules ---- */

/* 0, which policy_check() refuses, for what is none. */
static uint32_t
rule_number(json_int_t n)
{
	return n > 0 && n <= INT32_MAX ? (uint32_t)n : 0;
}

/* As DRS writes a rule; ruleID may be left out: its place in the list. */
static int
take_rule(json_t *value, size_t index, struct pit_rule *ret_rule, struct hf_error *err)
{
	json_int_t id = (json_int_t)index + 1, interval = 0, retention = 0;
	const char *units = "";
	int enabled = 1;
	json_error_t problem;

	if (json_unpack_ex(value, &problem, JSON_STRICT, "{s?I, s:s, s:I, s:I, s?b}", "ruleID", &id, "units", &units,
		"interval", &interval, "retentionDuration", &retention, "enabled", &enabled) < 0)
		return hf_error_say(err, -EINVAL, "pitPolicy, rule %zu: %s", index + 1, problem.text);
	*ret_rule = (struct pit_rule){
	    .rule_id = rule_number(id),
	    .interval = rule_number(interval),
	    .retention = rule_number(retention),
	    .enabled = enabled != 0,
	};
	snprintf(ret_rule->unit, sizeof ret_rule->unit, "%s", units);
	return 0;
}

/* Whether they can be rules: policy_check(), when all is read. */
static int
take_rules(const char *name, const json_t *value, void *field, struct hf_error *err)
{
	struct policy *policy = field;
	json_t *rule;
	size_t i;
	int r = 0;

	if (!json_is_array(value) || json_array_size(value) > PIT_RULES_MAX)
		return hf_error_say(err, -EINVAL, "%s: a list of at most %d rules is wanted", name, PIT_RULES_MAX);
	json_array_foreach (value, i, rule) {
		if (r == 0)
			r = take_rule(rule, i, &policy->rules[i], err);
	}
	policy->rule_count = json_array_size(value);
	return r;
}

json_t *
settings_rules_json(const struct policy *policy)
{
	json_t *rules = json_array();

	for (size_t i = 0; i < policy->rule_count; i++) {
		const struct pit_rule *r = &policy->rules[i];

		json_array_append_new(rules,
		    json_pack("{s:i, s:s, s:i, s:i, s:b}", "ruleID", (int)r->rule_id, "units", r->unit, "interval",
			(int)r->interval, "retentionDuration", (int)r->retention, "enabled", r->enabled));
	}
	return rules;
}

static json_t *
give_rules(const void *field)
{
	return settings_rules_json(field);
}

static int
parse_rules(const char *text, void *field)
{
	return policy_parse_rules(text, field, NULL);
}

static void
format_rules(const void *field, char *buf)
{
	const struct policy *policy = field;

	if (policy->rule_count == 0)
		snprintf(buf, POLICY_TEXT_BYTES, "none");
	else
		policy_format_rules(policy, buf);
}

static const struct setting_kind rules_kind = {take_rules, give_rules, parse_rules, format_rules};

/* ---- spans of time, to the millisecond; 0 is "none" where that is what it means ---- */

static int
take_seconds(const char *name, const json_t *value, void *field, struct hf_error *err)
{
	double seconds = json_number_value(value);

	if (!json_is_number(value) || seconds < 0 || seconds > SECONDS_MAX)
		return hf_error_say(err, -EINVAL, "%s: a number of seconds is wanted", name);
	/* Rounded: what was given is read as it was. */
	*(int64_t *)field = (int64_t)(seconds * 1000 + 0.5) * (NS_PER_SECOND / 1000);
	return 0;
}

static json_t *
give_seconds(const void *field)
{
	return json_real((double)*(const int64_t *)field / NS_PER_SECOND);
}

static json_t *
give_target(const void *field)
{
	return *(const int64_t *)field == 0 ? json_null() : give_seconds(field);
}

static int
parse_seconds(const char *text, void *field)
{
	int64_t ns;

	if (duration_parse(text, &ns) < 0 || (double)ns > SECONDS_MAX * NS_PER_SECOND)
		return -EINVAL;
	*(int64_t *)field = ns;
	return 0;
}

static int
parse_target(const char *text, void *field)
{
	return parse_seconds(strcmp(text, "none") == 0 ? "0" : text, field);
}

static void
format_seconds(const void *field, char *buf)
{
	format_exactly((uint64_t) * (const int64_t *)field, spans, sizeof spans / sizeof spans[0], buf);
}

static void
format_target(const void *field, char *buf)
{
	if (*(const int64_t *)field == 0)
		snprintf(buf, POLICY_TEXT_BYTES, "none");
	else
		format_seconds(field, buf);
}

static const struct setting_kind seconds_kind = {take_seconds, give_seconds, parse_seconds, format_seconds};
static const struct setting_kind target_kind = {take_seconds, give_target, parse_target, format_target};

/* ---- sizes ---- */

static int
take_size(const char *name, const json_t *value, void *field, struct hf_error *err)
{
	if (!json_is_integer(value) || json_integer_value(value) <= 0)
		return hf_error_say(err, -EINVAL, "%s: a number of bytes, or null, is wanted", name);
	*(uint64_t *)field = (uint64_t)json_integer_value(value);
	return 0;
}

static json_t *
give_size(const void *field)
{
	uint64_t bytes = *(const uint64_t *)field;

	return bytes == 0 ? json_null() : json_integer((json_int_t)bytes);
}

static int
parse_size(const char *text, void *field)
{
	uint64_t bytes = 0;
	bool none = strcmp(text, "none") == 0;

	if (!none && (size_parse(text, &bytes) < 0 || bytes == 0 || bytes > INT64_MAX))
		return -EINVAL;
	*(uint64_t *)field = bytes;
	return 0;
}

static void
format_size(const void *field, char *buf)
{
	uint64_t bytes = *(const uint64_t *)field;

	if (bytes == 0)
		snprintf(buf, POLICY_TEXT_BYTES, "none");
	else
		format_exactly(bytes, sizes, sizeof sizes / sizeof sizes[0], buf);
}

static const struct setting_kind size_kind = {take_size, give_size, parse_size, format_size};

/* ---- Mbps ---- */

static int
take_mbps(const char *name, const json_t *value, void *field, struct hf_error *err)
{
	json_int_t mbps = json_integer_value(value);

	if (!json_is_integer(value) || mbps < 0 || mbps > THROTTLE_MBPS_MAX)
		return hf_error_say(err, -EINVAL, "%s: 0 to %d Mbps are wanted", name, THROTTLE_MBPS_MAX);
	*(unsigned *)field = (unsigned)mbps;
	return 0;
}

static json_t *
give_mbps(const void *field)
{
	return json_integer(*(const unsigned *)field);
}

static int
parse_mbps(const char *text, void *field)
{
	bool none = strcmp(text, "none") == 0;
	char *end;
	long mbps = strtol(text, &end, 10);

	if (!none && (end == text || *end != '\0' || mbps < 0 || mbps > THROTTLE_MBPS_MAX))
		return -EINVAL;
	*(unsigned *)field = none ? 0 : (unsigned)mbps;
	return 0;
}

static void
format_mbps(const void *field, char *buf)
{
	unsigned mbps = *(const unsigned *)field;

	if (mbps == 0)
		snprintf(buf, POLICY_TEXT_BYTES, "none");
	else
		snprintf(buf, POLICY_TEXT_BYTES, "%u", mbps);
}

static const struct setting_kind mbps_kind = {take_mbps, give_mbps, parse_mbps, format_mbps};

/* ---- what goes when there is no room ---- */

static int
take_when_full(const char *name, const json_t *value, void *field, struct hf_error *err)
{
	const char *text = json_is_string(value) ? json_string_value(value) : "";

	if (!when_full_parse(text, field))
		return hf_error_say(err, -EINVAL, "%s \"%s\": stall, thin or default is wanted", name, text);
	return 0;
}

static json_t *
give_when_full(const void *field)
{
	return json_string(when_full_name(*(const enum when_full *)field));
}

static int
parse_when_full(const char *text, void *field)
{
	return when_full_parse(text, field) ? 0 : -EINVAL;
}

static void
format_when_full(const void *field, char *buf)
{
	snprintf(buf, POLICY_TEXT_BYTES, "%s", when_full_name(*(const enum when_full *)field));
}

static const struct setting_kind when_full_kind = {take_when_full, give_when_full, parse_when_full, format_when_full};

/* ---- yes or no ---- */

static int
take_bool(const char *name, const json_t *value, void *field, struct hf_error *err)
{
	if (!json_is_boolean(value))
		return hf_error_say(err, -EINVAL, "%s: true or false is wanted", name);
	*(bool *)field = json_is_true(value);
	return 0;
}

static json_t *
give_bool(const void *field)
{
	return json_boolean(*(const bool *)field);
}

static int
parse_bool(const char *text, void *field)
{
	bool on = strcmp(text, "on") == 0;

	if (!on && strcmp(text, "off") != 0)
		return -EINVAL;
	*(bool *)field = on;
	return 0;
}

static void
format_bool(const void *field, char *buf)
{
	snprintf(buf, POLICY_TEXT_BYTES, "%s", *(const bool *)field ? "on" : "off");
}

static const struct setting_kind bool_kind = {take_bool, give_bool, parse_bool, format_bool};

/* ---- the table ---- */

#define AT(field) offsetof(struct settings, field)

static const struct setting table[] = {
    {"rpo-target", "rpoTargetSeconds", SETTINGS_OF_SOURCE, &target_kind, AT(source.rpo_target_ns),
	"a time like 15m, or none", "how old its newest point may be"},
    {"auto-replicate-new-disks", "autoReplicateNewDisks", SETTINGS_OF_SOURCE, &bool_kind,
	AT(source.auto_replicate_new_disks), "on or off", "a disk that appears on the source is replicated by itself"},
    {"bandwidth", "bandwidthThrottling", SETTINGS_OF_STORE, &mbps_kind, AT(bandwidth_mbps), "Mbps, or none",
	"how fast it is read at most (holdfastctl throttle set)"},
    {"pit-policy", "pitPolicy", SETTINGS_OF_STORE, &rules_kind, AT(policy), "rules like \"10m/60m 1h/24h\", or none",
	"which points are kept (holdfastctl policy set)"},
    {"journal-window", "journalWindowSeconds", SETTINGS_OF_STORE, &seconds_kind, AT(policy.journal_window_ns),
	"a time like 1h", "how far back every checkpoint can be restored"},
    {"min-retention", "minRetentionSeconds", SETTINGS_OF_STORE, &seconds_kind, AT(policy.min_retention_ns),
	"a time like 7d", "no point that is younger goes"},
    {"quota", "quotaBytes", SETTINGS_OF_STORE, &size_kind, AT(quota_bytes), "a size like 200GiB, or none",
	"the most it may take of the staging area"},
    {"when-full", "whenFull", SETTINGS_OF_STORE, &when_full_kind, AT(when_full), "stall, thin or default",
	"what goes when there is no room"},
};

enum { SETTINGS = sizeof table / sizeof table[0] };

const struct setting *
settings_table(size_t *ret_count)
{
	*ret_count = SETTINGS;
	return table;
}

static const struct setting *
find_name(const char *name)
{
	for (size_t i = 0; i < SETTINGS; i++)
		if (strcmp(table[i].name, name) == 0)
			return &table[i];
	return NULL;
}

static void *
field_of(const struct setting *s, struct settings *settings)
{
	return (char *)settings + s->offset;
}

static const void *
const_field_of(const struct setting *s, const struct settings *settings)
{
	return (const char *)settings + s->offset;
}

void
settings_default_source(struct source_settings *ret_settings)
{
	*ret_settings = (struct source_settings){.auto_replicate_new_disks = true};
}

void
settings_default(struct settings *ret_settings)
{
	memset(ret_settings, 0, sizeof *ret_settings);
	settings_default_source(&ret_settings->source);
	policy_default(&ret_settings->policy);
}

/* ---- tags ---- */

/* They are shown on terminals. */
static int
check_tag_text(const char *what, const char *text, size_t min, size_t max, struct hf_error *err)
{
	if (strlen(text) < min || strlen(text) > max)
		return hf_error_say(err, -EINVAL, "tag: a %s of %zu to %zu bytes is wanted", what, min, max);
	if (!text_is_plain(text, strlen(text)))
		return hf_error_say(err, -EINVAL, "tag: control characters are not allowed in a %s", what);
	return 0;
}

static int
check_tags(const json_t *tags, struct hf_error *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(tags) || json_object_size(tags) > TAGS_MAX)
		return hf_error_say(err, -EINVAL, "tags: an object of at most %d is wanted", TAGS_MAX);
	json_object_foreach((json_t *)(uintptr_t)tags, key, value)
	{
		int r = check_tag_text("key", key, 1, TAG_KEY_BYTES, err);

		if (r == 0 && !json_is_null(value) && !json_is_string(value))
			r = hf_error_say(err, -EINVAL, "tag %s: a text is wanted", key);
		if (r == 0 && json_is_string(value))
			r = check_tag_text("value", json_string_value(value), 0, TAG_VALUE_BYTES, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- as JSON ---- */

/* null stands for the default, which *settings has. */
static int
read_member(
    const char *name, const json_t *value, enum settings_scope scope, struct settings *settings, struct hf_error *err)
{
	const struct setting *s = find_name(name);

	if (strcmp(name, "tags") == 0 && (scope & SETTINGS_OF_SOURCE))
		return json_is_null(value) ? 0 : check_tags(value, err);
	if (s == NULL || !(s->scope & scope))
		return hf_error_say(err, -EINVAL, "%s: no such setting here", name);
	return json_is_null(value) ? 0 : s->kind->take(name, value, field_of(s, settings), err);
}

int
settings_read(const json_t *object, enum settings_scope scope, struct settings *settings, struct hf_error *err)
{
	struct settings read = *settings;
	const char *name;
	json_t *value;

	if (!json_is_object(object))
		return hf_error_say(err, -EINVAL, "settings: a JSON object is wanted");
	json_object_foreach((json_t *)(uintptr_t)object, name, value)
	{
		int r = read_member(name, value, scope, &read, err);

		if (r < 0)
			return r;
	}
	if ((scope & SETTINGS_OF_STORE) && policy_check(&read.policy, err) < 0)
		return -EINVAL;
	*settings = read;
	return 0;
}

static int
dump_tags(const json_t *object, char **ret_tags, struct hf_error *err)
{
	const json_t *tags = json_object_get(object, "tags");
	char *text = NULL;

	if (json_object_size(tags) > 0) {
		text = json_dumps(tags, JSON_COMPACT | JSON_SORT_KEYS);
		if (text == NULL)
			return hf_error_set(err, -ENOMEM, "tags");
	}
	*ret_tags = text;
	return 0;
}

int
settings_read_source(const char *text, struct source_settings *ret_settings, char **ret_tags, struct hf_error *err)
{
	json_t *object = settings_load(text);
	struct settings settings;
	int r;

	settings_default(&settings);
	r = settings_read(object, SETTINGS_OF_SOURCE, &settings, err);
	if (r == 0)
		r = dump_tags(object, ret_tags, err);
	if (r == 0)
		*ret_settings = settings.source;
	json_decref(object);
	return r;
}

json_t *
settings_json(const struct settings *settings, enum settings_scope scope)
{
	json_t *object = json_object();

	for (size_t i = 0; i < SETTINGS; i++)
		if (table[i].scope & scope)
			json_object_set_new(
			    object, table[i].name, table[i].kind->give(const_field_of(&table[i], settings)));
	return object;
}

/* What is empty then is as good as not set. */
static void
merge_inside(json_t *object, const char *name, const json_t *patch)
{
	json_t *old = json_object_get(object, name), *inside = json_is_object(old) ? json_incref(old) : json_object();

	settings_merge(inside, patch);
	if (json_object_size(inside) > 0)
		json_object_set(object, name, inside);
	else
		json_object_del(object, name);
	json_decref(inside);
}

void
settings_merge(json_t *object, const json_t *patch)
{
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)patch, name, value)
	{
		if (json_is_null(value)) {
			json_object_del(object, name);
		} else if (!json_is_object(value)) {
			json_object_set_new(object, name, json_deep_copy(value));
		} else {
			merge_inside(object, name, value);
		}
	}
}

static json_t *
plain_value(const json_t *value)
{
	char plain[TAG_VALUE_BYTES + 1];

	if (!json_is_string(value))
		return json_deep_copy(value);
	text_set(plain, sizeof plain, json_string_value(value));
	return json_string(plain);
}

/* Older versions took tags with characters that may not be shown. */
static json_t *
plain_tags(const json_t *tags)
{
	char plain[TAG_KEY_BYTES + 1];
	json_t *object = json_object(), *value;
	const char *key;

	json_object_foreach((json_t *)(uintptr_t)tags, key, value)
	{
		text_set(plain, sizeof plain, key);
		json_object_set_new(object, plain, plain_value(value));
	}
	return object;
}

/* As we say it ourselves, so that one value has one form: 90 is 90.0. What cannot be read stays. */
static json_t *
own_form(const char *name, const json_t *value)
{
	const struct setting *s = find_name(name);
	struct settings settings;
	json_t *own = NULL;

	if (strcmp(name, "tags") == 0 && json_is_object(value))
		return plain_tags(value);
	settings_default(&settings);
	if (s != NULL && s->kind->take(name, value, field_of(s, &settings), NULL) >= 0)
		own = s->kind->give(const_field_of(s, &settings));
	return own != NULL ? own : json_deep_copy(value);
}

json_t *
settings_select(const json_t *object, enum settings_scope scope)
{
	json_t *selected = json_object();
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)object, name, value)
	{
		const struct setting *s = find_name(name);

		if ((s != NULL ? s->scope : SETTINGS_OF_SOURCE) & scope)
			json_object_set_new(selected, name, own_form(name, value));
	}
	return selected;
}

json_t *
settings_load(const char *text)
{
	json_t *kept = json_loads(text, 0, NULL), *selected, *object;

	if (!json_is_object(kept)) {
		json_decref(kept);
		return NULL;
	}
	selected = settings_select(kept, SETTINGS_ALL);
	object = json_object();
	settings_merge(object, selected);
	json_decref(selected);
	json_decref(kept);
	return object;
}

/* ---- as people type and read them ---- */

static const struct setting *
find_key(const char *word, size_t len, enum settings_scope scope)
{
	for (size_t i = 0; i < SETTINGS; i++)
		if (strlen(table[i].key) == len && memcmp(table[i].key, word, len) == 0 && (table[i].scope & scope))
			return &table[i];
	return NULL;
}

static int
say_keys(const char *word, enum settings_scope scope, struct hf_error *err)
{
	char keys[256] = "";
	size_t n = 0;

	for (size_t i = 0; i < SETTINGS; i++)
		if (table[i].scope & scope)
			n += (size_t)snprintf(keys + n, sizeof keys - n, "%s%s", n > 0 ? ", " : "", table[i].key);
	return hf_error_say(err, -EINVAL, "\"%.100s\": KEY=VALUE is wanted; keys are %s", word, keys);
}

int
settings_parse(const char *word, enum settings_scope scope, json_t *patch, struct hf_error *err)
{
	size_t len = strcspn(word, "=");
	const struct setting *s = find_key(word, len, scope);
	struct settings settings;

	if (word[len] != '=' || s == NULL)
		return say_keys(word, scope, err);
	settings_default(&settings);
	if (strcmp(word + len + 1, "default") == 0) {
		json_object_set_new(patch, s->name, json_null());
		return 0;
	}
	if (s->kind->parse(word + len + 1, field_of(s, &settings)) < 0)
		return hf_error_say(err, -EINVAL, "%.200s: %s, or default, is wanted", word, s->wanted);
	json_object_set_new(patch, s->name, s->kind->give(const_field_of(s, &settings)));
	return 0;
}

int
settings_parse_tag(const char *word, json_t *tags, struct hf_error *err)
{
	size_t len = strcspn(word, "=");

	if (word[len] != '=' || len == 0)
		return hf_error_say(err, -EINVAL, "\"%.200s\": KEY=VALUE is wanted", word);
	if (json_object_setn_new(tags, word, len, json_string(word + len + 1)) < 0)
		return hf_error_say(err, -EINVAL, "\"%.200s\" is not UTF-8", word);
	return check_tags(tags, err);
}

const char *
settings_format(const struct setting *setting, const struct settings *settings, char *buf)
{
	setting->kind->format(const_field_of(setting, settings), buf);
	return buf;
}

static size_t
describe_tag(const char *key, const json_t *value, const json_t *was, char *buf, size_t size)
{
	bool had = was == NULL || json_object_get(json_object_get(was, "tags"), key) != NULL;

	if (json_is_null(value))
		return (size_t)snprintf(buf, size, "tags.%s %s", key, had ? "removed" : "was not there");
	return (size_t)snprintf(buf, size, "tags.%s=%s", key, json_string_value(value));
}

static size_t
describe_tags(json_t *tags, const json_t *was, char *buf, size_t size)
{
	const char *key;
	json_t *value;
	size_t n = 0;

	if (json_is_null(tags))
		return (size_t)snprintf(buf, size, "tags=default");
	json_object_foreach(tags, key, value)
	{
		if (n > 0 && n < size)
			n += (size_t)snprintf(buf + n, size - n, " ");
		if (n < size)
			n += describe_tag(key, value, was, buf + n, size - n);
	}
	return n;
}

static size_t
describe_member(const struct setting *s, const json_t *value, char *buf, size_t size)
{
	char text[POLICY_TEXT_BYTES] = "default";
	struct settings settings;

	settings_default(&settings);
	if (!json_is_null(value) && s->kind->take(s->name, value, field_of(s, &settings), NULL) >= 0)
		settings_format(s, &settings, text);
	return (size_t)snprintf(buf, size, "%s=%s", s->key, text);
}

void
settings_describe(const json_t *patch, const json_t *was, char *buf, size_t size)
{
	const char *name;
	json_t *value;
	size_t n = 0;

	buf[0] = '\0';
	json_object_foreach((json_t *)(uintptr_t)patch, name, value)
	{
		const struct setting *s = find_name(name);

		if (n > 0 && n < size)
			n += (size_t)snprintf(buf + n, size - n, " ");
		if (n < size)
			n += s != NULL ? describe_member(s, value, buf + n, size - n)
				       : describe_tags(value, was, buf + n, size - n);
	}
}
