/* SPDX-License-Identifier: Apache-2.0 */
#include "server/check/range.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A number from text to end, whole and finite. */
static int
parse_number(const char *text, const char *end, double *ret_value)
{
	char *rest;
	double value;

	if (strchr("+-.0123456789", text[0]) == NULL)
		return -EINVAL; /* strtod would also take blanks, "inf" and "nan" */
	value = strtod(text, &rest);
	if (rest == text || rest != end || !isfinite(value))
		return -EINVAL;
	*ret_value = value;
	return 0;
}

/* What stands before the colon. */
static int
parse_low(const char *text, const char *colon, double *ret_low)
{
	*ret_low = 0;
	if (colon == NULL || colon == text)
		return 0;
	if (colon == text + 1 && text[0] == '~') {
		*ret_low = -INFINITY;
		return 0;
	}
	return parse_number(text, colon, ret_low);
}

int
range_parse(const char *text, struct range *ret_range)
{
	struct range r = {.high = INFINITY, .inverted = text[0] == '@'};
	const char *begin = text + r.inverted, *colon = strchr(begin, ':');
	const char *high = colon == NULL ? begin : colon + 1;

	if (parse_low(begin, colon, &r.low) < 0)
		return -EINVAL;
	if ((colon == NULL || *high != '\0') && parse_number(high, high + strlen(high), &r.high) < 0)
		return -EINVAL;
	if (r.low > r.high)
		return -EINVAL;
	*ret_range = r;
	return 0;
}

bool
range_alarms(const struct range *r, double value)
{
	bool inside = value >= r->low && value <= r->high;

	return inside == r->inverted;
}
