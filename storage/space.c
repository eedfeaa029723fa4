/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/space.h"

#include <string.h>

#include "proto/common/units.h"

static const char *const when_full_names[] = {
    [WHEN_FULL_DEFAULT] = "default", [WHEN_FULL_STALL] = "stall", [WHEN_FULL_THIN] = "thin"};

const char *
when_full_name(enum when_full when_full)
{
	return when_full_names[when_full];
}

bool
when_full_parse(const char *text, enum when_full *ret_when_full)
{
	for (size_t i = 0; i < sizeof when_full_names / sizeof when_full_names[0]; i++)
		if (strcmp(text, when_full_names[i]) == 0) {
			*ret_when_full = (enum when_full)i;
			return true;
		}
	return false;
}

const char *
space_level_name(enum space_level level)
{
	switch (level) {
	case SPACE_EASY: return "easy";
	case SPACE_SHORTEN: return "shorten";
	case SPACE_THIN: return "thin";
	case SPACE_FULL: return "full";
	}
	return "?";
}

static bool
is_short(int64_t room_bytes, uint64_t limit, bool was)
{
	uint64_t wanted = was ? limit + limit / 2 : limit;

	return room_bytes < 0 || (uint64_t)room_bytes < wanted;
}

enum space_level
space_judge(int64_t room_bytes, const uint64_t limits[3], enum space_level was)
{
	enum space_level level = SPACE_FULL;

	while (level > SPACE_EASY && !is_short(room_bytes, limits[level - 1], was >= level))
		level--;
	return level;
}

/* A 10th, a 20th and a 100th of the quota. */
enum space_level
space_judge_quota(uint64_t used_bytes, uint64_t quota_bytes, enum space_level was, uint64_t *ret_room_bytes)
{
	const uint64_t limits[3] = {quota_bytes / 10, quota_bytes / 20, quota_bytes / 100};

	*ret_room_bytes = UINT64_MAX;
	if (quota_bytes == 0)
		return SPACE_EASY;
	*ret_room_bytes = used_bytes < quota_bytes ? quota_bytes - used_bytes : 0;
	return space_judge((int64_t)*ret_room_bytes, limits, was);
}

int64_t
space_shorter_window(int64_t span_ns, int64_t min_ns)
{
	int64_t half = span_ns / 2 < NS_PER_SECOND ? 0 : span_ns / 2;

	if (half >= min_ns)
		return half;
	return min_ns < span_ns ? min_ns : span_ns;
}
