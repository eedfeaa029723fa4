/* SPDX-License-Identifier: Apache-2.0 */
/* What operators set, as JSON and as they type it; the first byte says which. Whatever is accepted is said and read
 * again, and must then say the same: else it would be kept otherwise than it was shown. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/settings.h"
#include "server/throttle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool good)
{
	if (!good)
		abort();
}

/* Every setting as one types it means the same when it is typed. */
static void
require_typed_again(const struct settings *settings)
{
	char value[POLICY_TEXT_BYTES], word[POLICY_TEXT_BYTES + 64];
	const struct setting *table;
	size_t count;

	table = settings_table(&count);
	for (size_t i = 0; i < count; i++) {
		json_t *patch = json_object();

		snprintf(word, sizeof word, "%s=%s", table[i].key, settings_format(&table[i], settings, value));
		if (settings_parse(word, SETTINGS_ALL, patch, NULL) == 0)
			require(json_object_get(patch, table[i].name) != NULL);
		json_decref(patch);
	}
}

static void
require_same_again(const struct settings *settings)
{
	json_t *said = settings_json(settings, SETTINGS_ALL), *again;
	struct settings read;

	settings_default(&read);
	require(settings_read(said, SETTINGS_ALL, &read, NULL) == 0);
	again = settings_json(&read, SETTINGS_ALL);
	require(json_equal(said, again));
	json_decref(again);
	json_decref(said);
}

/* Kept as it was read, it is read as the same. */
static void
require_loaded_again(const char *text)
{
	json_t *once = settings_load(text), *twice;
	char *kept;

	if (once == NULL)
		return;
	kept = json_dumps(once, JSON_COMPACT);
	twice = settings_load(kept);
	require(json_equal(once, twice));
	json_decref(twice);
	free(kept);
	json_decref(once);
}

static void
try_json(const char *text)
{
	json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *kept = json_object(), *selected;
	char described[128];
	struct settings settings;

	require_loaded_again(text);
	settings_default(&settings);
	if (settings_read(object, SETTINGS_ALL, &settings, NULL) == 0) {
		require_same_again(&settings);
		require_typed_again(&settings);
		settings_describe(object, object, described, sizeof described);
		settings_merge(kept, object);
		selected = settings_select(kept, SETTINGS_OF_SOURCE);
		require(settings_read(selected, SETTINGS_OF_SOURCE, &settings, NULL) == 0);
		json_decref(selected);
	}
	json_decref(kept);
	json_decref(object);
}

static void
try_word(const char *text)
{
	json_t *patch = json_object(), *tags = json_object();
	struct settings settings;

	settings_default(&settings);
	if (settings_parse(text, SETTINGS_ALL, patch, NULL) == 0 &&
	    settings_read(patch, SETTINGS_ALL, &settings, NULL) == 0)
		require_same_again(&settings);
	(void)settings_parse_tag(text, tags, NULL);
	json_decref(tags);
	json_decref(patch);
}

static void
try_windows(const char *text)
{
	char said[THROTTLE_TEXT_BYTES], again[THROTTLE_TEXT_BYTES];
	struct throttle t = {0}, read = {0};

	if (throttle_windows_parse(text, &t, NULL) < 0)
		return;
	throttle_windows_format(&t, said);
	require(throttle_windows_parse(said, &read, NULL) == 0);
	require(strcmp(throttle_windows_format(&read, again), said) == 0);
	for (unsigned minute = 0; minute < 7 * MINUTES_PER_DAY; minute += 7)
		require(throttle_mbps_at(&t, minute / MINUTES_PER_DAY, minute % MINUTES_PER_DAY) ==
			throttle_mbps_at(&read, minute / MINUTES_PER_DAY, minute % MINUTES_PER_DAY));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const tries[])(const char *text) = {try_json, try_word, try_windows};
	char *text;

	if (size == 0)
		return 0;
	text = strndup((const char *)data + 1, size - 1);
	if (text != NULL)
		tries[data[0] % (sizeof tries / sizeof tries[0])](text);
	free(text);
	return 0;
}
