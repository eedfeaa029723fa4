/* SPDX-License-Identifier: Apache-2.0 */
#include "server/settings.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/common/units.h"

static json_t *
parse(const char *text)
{
	json_t *json = json_loads(text, 0, NULL);

	assert_non_null(json);
	return json;
}

static void
expect_json(json_t *json, const char *text)
{
	json_t *wanted = parse(text);

	if (!json_equal(json, wanted))
		fail_msg("got %s, wanted %s", json_dumps(json, JSON_SORT_KEYS), text);
	json_decref(wanted);
}

static void
expect_word(const char *word, const char *text)
{
	json_t *patch = json_object();
	struct hf_error err = {0};

	if (settings_parse(word, SETTINGS_ALL, patch, &err) < 0)
		fail_msg("%s: %s", word, err.text);
	expect_json(patch, text);
	json_decref(patch);
}

static void
words_become_what_the_api_has(void **state)
{
	expect_word("rpo-target=15m", "{\"rpoTargetSeconds\": 900.0}");
	expect_word("rpo-target=none", "{\"rpoTargetSeconds\": null}");
	expect_word("auto-replicate-new-disks=off", "{\"autoReplicateNewDisks\": false}");
	expect_word("journal-window=0s", "{\"journalWindowSeconds\": 0.0}");
	expect_word("quota=2GiB", "{\"quotaBytes\": 2147483648}");
	expect_word("bandwidth=50", "{\"bandwidthThrottling\": 50}");
	expect_word("bandwidth=none", "{\"bandwidthThrottling\": 0}");
	expect_word("quota=none", "{\"quotaBytes\": null}");
	expect_word("when-full=thin", "{\"whenFull\": \"thin\"}");
	expect_word("pit-policy=none", "{\"pitPolicy\": []}");
	expect_word("pit-policy=1h/24h",
	    "{\"pitPolicy\": [{\"ruleID\": 1, \"units\": \"HOUR\", \"interval\": 1, \"retentionDuration\": 24, "
	    "\"enabled\": true}]}");
	expect_word("when-full=default", "{\"whenFull\": null}");
}

static void
words_that_say_nothing_are_refused_by_name(void **state)
{
	static const char *const words[] = {"rpo-target", "rpo-target=soon", "rpo_target=15m", "rpo-target=-1s",
	    "quota=0", "quota=lots", "bandwidth=-1", "bandwidth=fast", "bandwidth=", "when-full=explode",
	    "auto-replicate-new-disks=yes", "pit-policy=10m", "rpo-target=9000000000s", "bandwidth=100001", "=", ""};

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		json_t *patch = json_object();
		struct hf_error err = {0};

		if (settings_parse(words[i], SETTINGS_ALL, patch, &err) != -EINVAL || json_object_size(patch) != 0)
			fail_msg("\"%s\" was taken", words[i]);
		assert_non_null(strstr(err.text, words[i]));
		json_decref(patch);
	}
}

static void
what_is_the_stores_is_no_setting_of_a_source(void **state)
{
	json_t *patch = json_object();
	struct hf_error err;

	assert_int_equal(settings_parse("quota=1GiB", SETTINGS_OF_SOURCE, patch, &err), -EINVAL);
	assert_null(strstr(err.text, "when-full"));
	assert_non_null(strstr(err.text, "rpo-target"));
	json_decref(patch);
}

static int
read_text(const char *text, enum settings_scope scope, struct settings *settings, struct hf_error *err)
{
	json_t *json = parse(text);
	int r = settings_read(json, scope, settings, err);

	json_decref(json);
	return r;
}

static void
members_are_read_and_the_others_stay(void **state)
{
	struct settings s;

	settings_default(&s);
	assert_true(s.source.auto_replicate_new_disks);
	assert_int_equal(s.policy.rule_count, 3);
	assert_int_equal(
	    read_text("{\"rpoTargetSeconds\": 0.5, \"quotaBytes\": 7, \"pitPolicy\": []}", SETTINGS_ALL, &s, NULL), 0);
	assert_int_equal(s.source.rpo_target_ns, NS_PER_SECOND / 2);
	assert_int_equal(s.quota_bytes, 7);
	assert_int_equal(s.policy.rule_count, 0);
	assert_true(s.source.auto_replicate_new_disks);
	assert_int_equal(
	    read_text("{\"autoReplicateNewDisks\": false, \"quotaBytes\": null}", SETTINGS_ALL, &s, NULL), 0);
	assert_false(s.source.auto_replicate_new_disks);
	assert_int_equal(s.quota_bytes, 7);
	assert_int_equal(read_text("{\"rpoTargetSeconds\": 16.56}", SETTINGS_ALL, &s, NULL), 0);
	assert_int_equal(s.source.rpo_target_ns, 16560 * (NS_PER_SECOND / 1000)); /* no number has it exactly */
}

static void
values_that_cannot_be_are_refused_and_nothing_is_taken(void **state)
{
	static const char *const bad[] = {"{\"rpoTargetSeconds\": -1}", "{\"rpoTargetSeconds\": \"15m\"}",
	    "{\"autoReplicateNewDisks\": 1}", "{\"quotaBytes\": 0}", "{\"quotaBytes\": 1.5}", "{\"whenFull\": \"\"}",
	    "{\"journalWindowSeconds\": 1e10}", "{\"journalWindowSeconds\": 2700000}", "{\"pitPolicy\": {}}",
	    "{\"rpoTarget\": 1}", "{\"tags\": []}", "{\"tags\": {\"\": \"x\"}}", "{\"tags\": {\"a\": 1}}",
	    "{\"tags\": {\"a\": \"\\u001b[2J\"}}", "{\"tags\": {\"a\\n\": \"\"}}", "{\"tags\": {\"a\": \"\\u007f\"}}",
	    "{\"tags\": {\"a\": \"\\u009b\"}}", "{\"rpoTargetSeconds\": 1e300}", "{\"bandwidthThrottling\": -1}",
	    "{\"bandwidthThrottling\": 100001}", "{\"bandwidthThrottling\": 1.5}",
	    "{\"pitPolicy\": [{\"units\": \"MINUTES\", \"interval\": 1, \"retentionDuration\": 2}]}",
	    "{\"pitPolicy\": [{\"units\": \"HOUR\", \"interval\": 0, \"retentionDuration\": 2}]}", "[]"};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct settings s, before;
		struct hf_error err = {0};

		settings_default(&s);
		before = s;
		if (read_text(bad[i], SETTINGS_ALL, &s, &err) != -EINVAL || err.text[0] == '\0')
			fail_msg("%s was taken", bad[i]);
		assert_memory_equal(&s, &before, sizeof s);
	}
}

/* As AWS counts them: bytes of UTF-8. */
static int
read_tag(size_t key_bytes, size_t value_bytes)
{
	char key[200] = "", value[300] = "";
	json_t *object;
	struct settings s;
	int r;

	memset(key, 'k', key_bytes);
	memset(value, 'v', value_bytes);
	settings_default(&s);
	object = json_pack("{s:{s:s}}", "tags", key, value);
	r = settings_read(object, SETTINGS_OF_SOURCE, &s, NULL);
	json_decref(object);
	return r;
}

static void
tags_have_the_limits_of_aws(void **state)
{
	json_t *tags = json_object(), *object = json_pack("{s:o}", "tags", tags);
	struct settings s;

	settings_default(&s);
	assert_int_equal(read_tag(128, 256), 0);
	assert_int_equal(read_tag(129, 1), -EINVAL);
	assert_int_equal(read_tag(1, 257), -EINVAL);
	for (int i = 0; i < 50; i++) {
		char key[16];

		snprintf(key, sizeof key, "key%d", i);
		json_object_set_new(tags, key, json_string(""));
	}
	assert_int_equal(settings_read(object, SETTINGS_OF_SOURCE, &s, NULL), 0);
	json_object_set_new(tags, "one more", json_string(""));
	assert_int_equal(settings_read(object, SETTINGS_OF_SOURCE, &s, NULL), -EINVAL);
	json_decref(object);
}

static void
the_largest_set_fits_into_its_text(void **state)
{
	char key[TAG_KEY_BYTES + 1] = "", value[TAG_VALUE_BYTES + 1] = "", *text;
	json_t *tags = json_object(), *object = json_pack("{s:o}", "tags", tags);

	memset(key, '"', TAG_KEY_BYTES);
	memset(value, '\\', TAG_VALUE_BYTES);
	for (int i = 0; i < TAGS_MAX; i++) {
		key[0] = (char)('0' + i);
		json_object_set_new(tags, key, json_string(value));
	}
	text = json_dumps(object, JSON_COMPACT);
	assert_true(strlen(text) + 1024 < SETTINGS_TEXT_BYTES);
	free(text);
	json_decref(object);
}

static void
words_of_tags_split_at_the_first_equals_sign(void **state)
{
	json_t *tags = json_object();

	assert_int_equal(settings_parse_tag("team=db", tags, NULL), 0);
	assert_int_equal(settings_parse_tag("query=a=b", tags, NULL), 0);
	assert_int_equal(settings_parse_tag("empty=", tags, NULL), 0);
	expect_json(tags, "{\"team\": \"db\", \"query\": \"a=b\", \"empty\": \"\"}");
	assert_int_equal(settings_parse_tag("team", tags, NULL), -EINVAL);
	assert_int_equal(settings_parse_tag("=db", tags, NULL), -EINVAL);
	assert_int_equal(settings_parse_tag("bad=\xff", tags, NULL), -EINVAL);
	json_decref(tags);
}

static void
a_patch_changes_what_it_names_and_null_takes_away(void **state)
{
	json_t *set = parse("{\"quotaBytes\": 5, \"tags\": {\"a\": \"1\", \"b\": \"2\"}}");
	json_t *patch = parse("{\"quotaBytes\": null, \"whenFull\": \"thin\", \"tags\": {\"b\": null, \"c\": \"3\"}}");

	settings_merge(set, patch);
	expect_json(set, "{\"whenFull\": \"thin\", \"tags\": {\"a\": \"1\", \"c\": \"3\"}}");
	json_decref(patch);
	patch = parse("{\"tags\": null}");
	settings_merge(set, patch);
	expect_json(set, "{\"whenFull\": \"thin\"}");
	json_decref(patch);
	patch = parse("{\"whenFull\": {\"b\": null, \"c\": 3}}");
	settings_merge(set, patch);
	expect_json(set, "{\"whenFull\": {\"c\": 3}}");
	json_decref(patch);
	patch = parse("{\"whenFull\": {\"c\": null}, \"tags\": {\"never there\": null}}");
	settings_merge(set, patch);
	expect_json(set, "{}");
	json_decref(patch);
	json_decref(set);
}

static void
each_row_is_given_what_is_its_own(void **state)
{
	json_t *set = parse(
	    "{\"rpoTargetSeconds\": null, \"quotaBytes\": 5, \"minRetentionSeconds\": 60, \"tags\": {\"a\": null}}");
	json_t *of_source = settings_select(set, SETTINGS_OF_SOURCE),
	       *of_store = settings_select(set, SETTINGS_OF_STORE);

	expect_json(of_source, "{\"rpoTargetSeconds\": null, \"tags\": {\"a\": null}}");
	expect_json(of_store, "{\"quotaBytes\": 5, \"minRetentionSeconds\": 60.0}");
	json_decref(of_source);
	json_decref(of_store);
	json_decref(set);
}

static void
a_row_is_read_with_its_tags(void **state)
{
	struct source_settings s;
	char *tags;

	assert_int_equal(
	    settings_read_source("{\"rpoTargetSeconds\": 60, \"tags\": {\"b\": \"2\", \"a\": \"1\"}}", &s, &tags, NULL),
	    0);
	assert_int_equal(s.rpo_target_ns, 60 * NS_PER_SECOND);
	assert_string_equal(tags, "{\"a\":\"1\",\"b\":\"2\"}");
	free(tags);
	assert_int_equal(settings_read_source("{}", &s, &tags, NULL), 0);
	assert_null(tags);
	assert_int_equal(s.rpo_target_ns, 0);
	assert_true(s.auto_replicate_new_disks);
	assert_int_equal(settings_read_source("{", &s, &tags, NULL), -EINVAL);
	assert_int_equal(settings_read_source("{\"quotaBytes\": 1}", &s, &tags, NULL), -EINVAL);
}

static void
a_tag_of_an_older_version_that_may_not_be_shown_costs_no_setting(void **state)
{
	struct source_settings s;
	struct hf_error err = {0};
	char *tags = NULL;

	if (settings_read_source("{\"rpoTargetSeconds\": 60, \"autoReplicateNewDisks\": false, "
				 "\"tags\": {\"a\\u009b\": \"x\\u007fy\", \"b\": \"2\"}}",
		&s, &tags, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(s.rpo_target_ns, 60 * NS_PER_SECOND);
	assert_false(s.auto_replicate_new_disks);
	assert_string_equal(tags, "{\"a??\":\"x?y\",\"b\":\"2\"}");
	free(tags);
}

static void
expect_loaded(const char *text, const char *wanted)
{
	json_t *object = settings_load(text);

	expect_json(object, wanted);
	json_decref(object);
}

static void
what_is_kept_has_the_form_we_say_it_in(void **state)
{
	expect_loaded("{\"rpoTargetSeconds\": 90}", "{\"rpoTargetSeconds\": 90.0}");
	expect_loaded("{\"rpoTargetSeconds\": 0, \"quotaBytes\": null, \"tags\": {}}", "{}");
	expect_loaded("{\"pitPolicy\": [{\"units\": \"HOUR\", \"interval\": 1, \"retentionDuration\": 24}]}",
	    "{\"pitPolicy\": [{\"ruleID\": 1, \"units\": \"HOUR\", \"interval\": 1, \"retentionDuration\": 24, "
	    "\"enabled\": true}]}");
	expect_loaded("{\"rpoTargetSeconds\": \"soon\", \"new\": {\"a\": 1}}",
	    "{\"rpoTargetSeconds\": \"soon\", \"new\": {\"a\": 1}}"); /* refused by name, when it is read */
	assert_null(settings_load("{"));
	assert_null(settings_load("[]"));
}

static void
what_was_said_is_described(void **state)
{
	json_t *patch =
	    parse("{\"rpoTargetSeconds\": 900, \"quotaBytes\": null, \"tags\": {\"team\": \"db\", \"old\": null}}");
	json_t *had = parse("{\"tags\": {\"old\": \"x\"}}"), *none = parse("{}");
	char text[256];

	settings_describe(patch, NULL, text, sizeof text);
	assert_string_equal(text, "rpo-target=15m quota=default tags.team=db tags.old removed");
	settings_describe(patch, had, text, sizeof text);
	assert_string_equal(text, "rpo-target=15m quota=default tags.team=db tags.old removed");
	settings_describe(patch, none, text, sizeof text);
	assert_string_equal(text, "rpo-target=15m quota=default tags.team=db tags.old was not there");
	json_decref(had);
	json_decref(none);
	for (size_t size = 1; size < sizeof text; size++) {
		memset(text, 'x', sizeof text);
		settings_describe(patch, NULL, text, size);
		assert_true(strlen(text) < size);
	}
	json_decref(patch);
	patch = parse("{\"tags\": null}");
	settings_describe(patch, NULL, text, sizeof text);
	assert_string_equal(text, "tags=default");
	json_decref(patch);
}

/* Every setting: what is shown can be typed again. */
static void
what_is_shown_can_be_typed(void **state)
{
	size_t count;
	const struct setting *table = settings_table(&count);
	struct settings settings;

	settings_default(&settings);
	settings.source.rpo_target_ns = 600 * NS_PER_SECOND;
	settings.policy.min_retention_ns = 90061 * NS_PER_SECOND;
	settings.policy.journal_window_ns = NS_PER_SECOND / 2;
	settings.quota_bytes = 3 << 20;
	settings.when_full = WHEN_FULL_THIN;
	for (size_t i = 0; i < count; i++) {
		json_t *patch = json_object(), *all = settings_json(&settings, table[i].scope);
		char value[POLICY_TEXT_BYTES], word[POLICY_TEXT_BYTES + 64];
		struct hf_error err = {0};

		snprintf(word, sizeof word, "%s=%s", table[i].key, settings_format(&table[i], &settings, value));
		if (settings_parse(word, SETTINGS_ALL, patch, &err) < 0)
			fail_msg("%s: %s", word, err.text);
		if (!json_equal(json_object_get(patch, table[i].name), json_object_get(all, table[i].name)))
			fail_msg("%s became something else", word);
		json_decref(patch);
		json_decref(all);
	}
}

#define T(name) cmocka_unit_test(name)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    T(words_become_what_the_api_has),
	    T(words_that_say_nothing_are_refused_by_name),
	    T(what_is_the_stores_is_no_setting_of_a_source),
	    T(members_are_read_and_the_others_stay),
	    T(values_that_cannot_be_are_refused_and_nothing_is_taken),
	    T(tags_have_the_limits_of_aws),
	    T(the_largest_set_fits_into_its_text),
	    T(words_of_tags_split_at_the_first_equals_sign),
	    T(a_patch_changes_what_it_names_and_null_takes_away),
	    T(each_row_is_given_what_is_its_own),
	    T(a_row_is_read_with_its_tags),
	    T(a_tag_of_an_older_version_that_may_not_be_shown_costs_no_setting),
	    T(what_is_kept_has_the_form_we_say_it_in),
	    T(what_was_said_is_described),
	    T(what_is_shown_can_be_typed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
