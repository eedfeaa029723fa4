/* SPDX-License-Identifier: Apache-2.0 */
/* policy.h: which points in time a source keeps, as people and DRS's API say it. Pure functions. */
#ifndef HF_STORAGE_POLICY_H
#define HF_STORAGE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/common/error.h"

struct pit_rule { /* "every interval keep one, for retention" */
	uint32_t rule_id;
	char unit[8];                 /* MINUTE, HOUR, DAY: as it was given */
	uint32_t interval, retention; /* in units */
	bool enabled;
};

enum {
	PIT_RULES_MAX = 16,
	POLICY_POINTS_MAX = 4096, /* that all rules together may keep */
	POLICY_TEXT_BYTES = 512,  /* enough for every policy in text */
};

struct policy {
	struct pit_rule rules[PIT_RULES_MAX];
	size_t rule_count;
	int64_t journal_window_ns;
	int64_t
	    min_retention_ns; /* no younger point goes, by a rule or by hand; of points that are there it only rises */
};

/* DRS's three rules and one hour of journal window. */
void policy_default(struct policy *ret_policy);

/* Nanoseconds in a MINUTE, HOUR or DAY; 0: no such unit. */
int64_t policy_unit_ns(const char *unit);

/* "10m/60m 1h/24h 1d/7d": INTERVAL/RETENTION, blanks between; "none" for no rule at all. Rules are numbered from 1 on
 * and enabled; the rest of the policy stays. -EINVAL: err says what is wrong, and where. */
int policy_parse_rules(const char *text, struct policy *policy, struct hf_error *err);

/* The same text of it; a rule that is not enabled is left out. buf: POLICY_TEXT_BYTES. Returns buf. */
const char *policy_format_rules(const struct policy *policy, char *buf);

/* Is it one that can be kept? -EINVAL: err names the rule or the value. */
int policy_check(const struct policy *policy, struct hf_error *err);

#endif
