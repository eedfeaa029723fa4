/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/find.h"

#include <string.h>

#include "proto/common/id.h"
#include "proto/common/units.h"
#include "server/ctl/client.h"
#include "server/ctl/pick.h"

/* ---- sources ---- */

static bool
is_meant(const json_t *source, const char *text, bool whole)
{
	const char *id = pick_text(source, "sourceServerID");

	if (whole)
		return strcmp(id, text) == 0 ||
		       strcmp(pick_text(source, "sourceProperties.identificationHints.hostname"), text) == 0;
	return strncmp(text, "s-", 2) == 0 && text[2] != '\0' && strncmp(id, text, strlen(text)) == 0;
}

static void
say_candidates(const json_t *sources, const char *text, bool whole)
{
	size_t i;
	json_t *source;

	ctl_note("\"%s\" may be any of these; give the id:", text);
	json_array_foreach (sources, i, source) {
		if (is_meant(source, text, whole))
			ctl_note("  %s  %s", pick_text(source, "sourceServerID"),
			    pick_text(source, "sourceProperties.identificationHints.hostname"));
	}
}

const json_t *
match_source(const json_t *sources, const char *text, int *ret_code)
{
	for (int whole = 1; whole >= 0; whole--) {
		const json_t *found = NULL;
		size_t i, count = 0;
		json_t *source;

		json_array_foreach (sources, i, source) {
			if (is_meant(source, text, whole)) {
				found = source;
				count++;
			}
		}
		if (count == 1)
			return found;
		if (count > 1) {
			say_candidates(sources, text, whole);
			*ret_code = EXIT_USAGE;
			return NULL;
		}
	}
	if (strcmp(text, "s") == 0 || strcmp(text, "s-") == 0)
		*ret_code = ctl_fail(EXIT_USAGE, "\"%s\" is too short: every id begins like that", text);
	else
		*ret_code = ctl_fail(EXIT_NOT_FOUND, "no source \"%s\" (holdfastctl source list shows them)", text);
	return NULL;
}

/* KEY, or KEY=VALUE. */
static bool
has_tag(const json_t *source, const char *wanted)
{
	const char *key;
	json_t *value;

	json_object_foreach(json_object_get(source, "tags"), key, value)
	{
		size_t len = strlen(key);

		if (strcmp(key, wanted) == 0 || (strncmp(key, wanted, len) == 0 && wanted[len] == '=' &&
						    strcmp(wanted + len + 1, json_string_value(value)) == 0))
			return true;
	}
	return false;
}

int
find_sources(struct ctl *ctl, json_t **ret_sources)
{
	int code = client_list(ctl->client, ret_sources, "/v1/source-servers?");

	if (code != EXIT_DONE || !ctl_given(ctl, OPT_TAG))
		return code;
	for (size_t i = json_array_size(*ret_sources); i > 0; i--)
		if (!has_tag(json_array_get(*ret_sources, i - 1), ctl->values[OPT_TAG]))
			json_array_remove(*ret_sources, i - 1);
	return EXIT_DONE;
}

void
print_if_none(const struct ctl *ctl, const json_t *sources)
{
	if (json_array_size(sources) > 0 || ctl_given(ctl, OPT_NO_HEADER))
		return;
	if (ctl_given(ctl, OPT_TAG))
		print_sentence(4, "no source has the tag %s: holdfastctl source tag gives it", ctl->values[OPT_TAG]);
	else
		print_sentence(4, "no source yet: holdfastctl token create prints the line that enrols one");
}

int
print_sources(const struct ctl *ctl, const json_t *sources, const struct table_column *columns, size_t column_count,
    void (*add)(struct table *t, const json_t *source, int64_t now_ns))
{
	struct table *t = table_create(columns, column_count);
	int64_t now_ns = clock_real_ns();
	const json_t *source;
	size_t i;
	int code;

	json_array_foreach (sources, i, source) {
		add(t, source, now_ns);
	}
	code = print_table(ctl, t);
	print_if_none(ctl, sources);
	return code;
}

int
find_source(struct ctl *ctl, const char *text, json_t **ret_source)
{
	const json_t *found;
	json_t *sources;
	int code;

	if (id_valid("s", text))
		return client_get(ctl->client, ret_source, "/v1/source-servers/%s", text);
	code = client_list(ctl->client, &sources, "/v1/source-servers?");
	if (code != EXIT_DONE)
		return code;
	found = match_source(sources, text, &code);
	if (found != NULL)
		*ret_source = json_deep_copy(found);
	json_decref(sources);
	return code;
}

int
find_named_or_all(struct ctl *ctl, json_t **ret_sources)
{
	json_t *source;
	int code;

	if (ctl->operand_count == 0)
		return find_sources(ctl, ret_sources);
	code = find_source(ctl, ctl->operands[0], &source);
	if (code == EXIT_DONE)
		*ret_sources = json_pack("[o]", source);
	return code;
}

json_t *
find_names(const json_t *sources)
{
	json_t *names = json_object();
	const json_t *source;
	size_t i;

	json_array_foreach (sources, i, source) {
		json_object_set_new(names, pick_text(source, "sourceServerID"), json_string(pick_source_name(source)));
	}
	return names;
}

/* ---- points ---- */

int
find_pits(struct ctl *ctl, const char *source_id, json_t **ret_pits)
{
	char path[96];

	snprintf(path, sizeof path, "/v1/points-in-time?sourceServerID=%s", source_id);
	return client_list(ctl->client, ret_pits, path);
}

static const json_t *
match_pit_exactly(const json_t *pits, const char *text, int *ret_code)
{
	const char *key = id_valid("pit", text) ? "pointInTimeID" : "name";
	const json_t *found = NULL;
	json_t *pit;
	size_t i;

	json_array_foreach (pits, i, pit) {
		if (strcmp(pick_text(pit, key), text) != 0)
			continue;
		if (found != NULL) {
			*ret_code =
			    ctl_fail(EXIT_USAGE, "\"%s\" names more than one point, %s and %s among them; give the id",
				text, pick_text(found, "pointInTimeID"), pick_text(pit, "pointInTimeID"));
			return NULL;
		}
		found = pit;
	}
	if (found == NULL)
		*ret_code = ctl_fail(
		    EXIT_NOT_FOUND, "no point \"%s\" (holdfastctl pit list shows them; --at also takes a time)", text);
	return found;
}

/* May a time mean this point? By its id, any may be asked for. */
static bool
is_restorable(const json_t *pit, bool fuzzy)
{
	return pick_bool(pit, "complete") && (fuzzy || strcmp(pick_text(pit, "consistency"), "fuzzy") != 0);
}

/* Our clock at the first moment the point shows; until its timestamp nothing changed. */
static int64_t
since_ns(const json_t *pit)
{
	return pick_time_ns(pit, pick(pit, "unchangedSince") != NULL ? "unchangedSince" : "timestamp");
}

/* From the end: by the order of the points, whatever clocks said. */
static const json_t *
match_pit_at(const json_t *pits, int64_t at_ns, bool fuzzy)
{
	for (size_t i = json_array_size(pits); i > 0; i--) {
		const json_t *pit = json_array_get(pits, i - 1);

		if (is_restorable(pit, fuzzy) && since_ns(pit) <= at_ns)
			return pit;
	}
	return NULL;
}

static int64_t
gap_ns(const json_t *pit, int64_t wanted_ns)
{
	int64_t timestamp_ns = pick_time_ns(pit, "timestamp");

	return wanted_ns > timestamp_ns ? wanted_ns - timestamp_ns : 0;
}

static int
say_no_pit(const json_t *pits, bool fuzzy)
{
	if (!fuzzy && match_pit_at(pits, INT64_MAX, true) != NULL && match_pit_at(pits, INT64_MAX, false) == NULL)
		return ctl_fail(EXIT_NOT_FOUND,
		    "there are only fuzzy points, read while the disks changed: --fuzzy lets them be chosen");
	if (match_pit_at(pits, INT64_MAX, fuzzy) == NULL)
		return ctl_fail(EXIT_NOT_FOUND,
		    "there is no complete point yet (holdfastctl status tells how far the first fill is)");
	return ctl_fail(EXIT_NOT_FOUND, "no point is that old (holdfastctl pit list shows them)");
}

const json_t *
match_pit(const json_t *pits, const char *at, bool fuzzy, int64_t now_ns, int64_t *ret_gap_ns, int *ret_code)
{
	bool latest = strcmp(at, "latest") == 0;
	const json_t *pit;
	int64_t at_ns;

	*ret_gap_ns = 0;
	if (!latest && time_parse(at, now_ns, &at_ns) < 0)
		return match_pit_exactly(pits, at, ret_code);
	pit = match_pit_at(pits, latest ? INT64_MAX : at_ns, fuzzy);
	if (pit == NULL)
		*ret_code = say_no_pit(pits, fuzzy);
	else
		*ret_gap_ns = gap_ns(pit, latest ? now_ns : at_ns);
	return pit;
}
