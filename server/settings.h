/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h: what an operator sets of a source, and of the sources to come. One table, from which command line, API
 * and registry work. A set of settings travels and is kept as a JSON object in the API's names (DRS's where it has
 * one); what is not in it has its default. It is changed as RFC 7396 says: what a patch does not name stays, null is
 * the default again.
 *
 * Pure functions, for holdfastd and holdfastctl. */
#ifndef HF_SERVER_SETTINGS_H
#define HF_SERVER_SETTINGS_H

#include <jansson.h>
#include <stdbool.h>

#include "proto/common/error.h"
#include "storage/policy.h"
#include "storage/space.h"

enum {
	TAGS_MAX = 50, /* of a source; these three are the limits of AWS */
	TAG_KEY_BYTES = 128,
	TAG_VALUE_BYTES = 256,
	SETTINGS_TEXT_BYTES = 48 * 1024, /* of a set as JSON, with so many tags */
};

/* Of a source, as its row in the registry has them. */
struct source_settings {
	int64_t rpo_target_ns; /* 0 = none */
	bool auto_replicate_new_disks;
};

struct settings {
	struct source_settings source;
	/* what has verbs of its own from the source's enrolment on: `throttle`, `policy set`, `quota set` */
	unsigned bandwidth_mbps; /* 0 = none */
	struct policy policy;
	uint64_t quota_bytes; /* 0 = none */
	enum when_full when_full;
};

enum settings_scope { SETTINGS_OF_SOURCE = 1, SETTINGS_OF_STORE = 2, SETTINGS_ALL = 3 };

struct setting_kind;

struct setting {          /* tags are none of them: they have verbs of their own */
	const char *key;  /* "rpo-target": on the command line */
	const char *name; /* "rpoTargetSeconds": in the API */
	enum settings_scope scope;
	const struct setting_kind *kind;
	size_t offset;       /* in struct settings */
	const char *wanted;  /* what a value looks like */
	const char *meaning; /* for people */
};

/* All of them. Static memory. */
const struct setting *settings_table(size_t *ret_count);

/* What holds where nobody said anything else; policy: DRS's. */
void settings_default(struct settings *ret_settings);
void settings_default_source(struct source_settings *ret_settings);

/* Members of the object into *settings; the others stay. -EINVAL: one is unknown, beyond the scope, or not allowed; err
 * names it. Tags are checked. */
int settings_read(const json_t *object, enum settings_scope scope, struct settings *settings, struct hf_error *err);

/* What the row of a source says (JSON), and its tags as JSON, to be freed; NULL: it has none. -EINVAL, -ENOMEM. */
int settings_read_source(const char *text, struct source_settings *ret_settings, char **ret_tags, struct hf_error *err);

/* Those of the scope, without tags. A new reference; NULL: out of memory. */
json_t *settings_json(const struct settings *settings, enum settings_scope scope);

/* The rules of a policy as DRS writes them. A new reference. */
json_t *settings_rules_json(const struct policy *policy);

/* RFC 7396. */
void settings_merge(json_t *object, const json_t *patch);

/* The members of the scope alone, tags being the source's, each in the form settings_json() has. A new reference. */
json_t *settings_select(const json_t *object, enum settings_scope scope);

/* A set as it was kept, in that form too and without nulls, so that two sets that say the same are equal. Tags that an
 * older version took and settings_read() would refuse have '?' in place of what may not be shown. A new reference;
 * NULL: it is none. */
json_t *settings_load(const char *text);

/* "rpo-target=15m" into patch; "=default" is null. "team=db" into tags. -EINVAL. */
int settings_parse(const char *word, enum settings_scope scope, json_t *patch, struct hf_error *err);
int settings_parse_tag(const char *word, json_t *tags, struct hf_error *err);

/* The value of a setting as one types it. buf: POLICY_TEXT_BYTES. Returns buf. */
const char *settings_format(const struct setting *setting, const struct settings *settings, char *buf);

/* "rpo-target=15m tags.team=db ...": what a patch says, for events, as far as there is room. was: the settings
 * before it, for a tag that is taken away may not have been there; NULL: not known. */
void settings_describe(const json_t *patch, const json_t *was, char *buf, size_t size);

#endif
