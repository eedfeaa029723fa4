/* SPDX-License-Identifier: Apache-2.0 */
/* range.h: a threshold as the Monitoring Plugins guidelines write it: which values are no cause for alarm. */
#ifndef HF_CHECK_RANGE_H
#define HF_CHECK_RANGE_H

#include <stdbool.h>

struct range {
	double low, high; /* both are inside; -INFINITY and INFINITY are allowed */
	bool inverted;    /* alarm inside, not outside */
};

/* "10": 0 to 10; "10:": at least 10; "~:10": at most 10; "10:20"; "@10:20": not those. 0, or -EINVAL. */
int range_parse(const char *text, struct range *ret_range);

bool range_alarms(const struct range *r, double value);

#endif
