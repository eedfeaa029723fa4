/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ctl/advice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "server/ctl/pick.h"

#define PIT(id, more) "{\"pointInTimeID\": \"" id "\", \"kept\": true" more "}"
#define FREES(bytes)  ", \"freedBytesIfDeleted\": " bytes

static const char *
advised(const char *text)
{
	static char ids[128];
	const json_t *points[ADVICE_POINTS_MAX];
	json_t *pits = json_loads(text, 0, NULL);
	size_t n;

	assert_non_null(pits);
	n = advice_points(pits, points);
	ids[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		strcat(ids, i > 0 ? " " : "");
		strcat(ids, pick_text(points[i], "pointInTimeID"));
	}
	json_decref(pits);
	return ids;
}

static void
what_frees_most_comes_first_and_three_are_enough(void **state)
{
	assert_string_equal(advised("[" PIT("a", FREES("1")) "," PIT("b", FREES("9")) "," PIT("c", FREES("5")) "," PIT(
				"d", FREES("7")) "," PIT("newest", FREES("99")) "]"),
	    "b d c");
}

static void
while_it_is_not_known_the_oldest_come_first(void **state)
{
	assert_string_equal(advised("[" PIT("a", "") "," PIT("b", "") "," PIT("newest", "") "]"), "a b");
}

static void
what_may_not_go_is_not_advised(void **state)
{
	assert_string_equal(advised("[" PIT("held", ", \"held\": true") "," PIT("guarded",
				", \"guarded\": true") ","
						       "{\"pointInTimeID\": \"window\", \"kept\": false}," PIT(
							   "a", "") "," PIT("newest", "") "]"),
	    "a");
	assert_string_equal(advised("[" PIT("newest", "") "]"), "");
	assert_string_equal(advised("[]"), "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_frees_most_comes_first_and_three_are_enough),
	    cmocka_unit_test(while_it_is_not_known_the_oldest_come_first),
	    cmocka_unit_test(what_may_not_go_is_not_advised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
