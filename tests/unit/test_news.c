/* SPDX-License-Identifier: Apache-2.0 */
#include "server/news.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct id any = {""}, one = {"s-1"}, two = {"s-2"};

static void
add(struct news *n, const struct id *source, int number)
{
	char *line = malloc(16);

	assert_non_null(line);
	snprintf(line, 16, "%d\n", number);
	news_add(n, source, line);
}

static void
expect_next(struct news *n, const struct id *source, uint64_t *place, int number)
{
	char *line = news_next(n, source, place);

	assert_non_null(line);
	assert_int_equal(atoi(line), number);
	free(line);
}

static void
each_listener_hears_what_comes_after_it_began(void **state)
{
	struct news *n = news_create();
	uint64_t early = news_end(n), late;

	add(n, &one, 1);
	late = news_end(n);
	add(n, &two, 2);
	expect_next(n, &any, &early, 1);
	expect_next(n, &any, &early, 2);
	assert_null(news_next(n, &any, &early));
	expect_next(n, &any, &late, 2);
	assert_null(news_next(n, &any, &late));
	add(n, &one, 3);
	expect_next(n, &any, &early, 3);
	news_destroy(n);
}

static void
who_asks_for_one_source_hears_of_that_alone(void **state)
{
	struct news *n = news_create();
	uint64_t place = 0;

	add(n, &one, 1);
	add(n, &two, 2);
	add(n, &one, 3);
	expect_next(n, &two, &place, 2);
	assert_null(news_next(n, &two, &place));
	assert_int_equal(place, news_end(n));
	news_destroy(n);
}

static void
who_falls_behind_misses_the_oldest(void **state)
{
	struct news *n = news_create();
	uint64_t place = 0;

	for (int i = 0; i < NEWS_MAX + 10; i++)
		add(n, &one, i);
	for (int i = 10; i < NEWS_MAX + 10; i++)
		expect_next(n, &any, &place, i);
	assert_null(news_next(n, &any, &place));
	news_destroy(n);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_listener_hears_what_comes_after_it_began),
	    cmocka_unit_test(who_asks_for_one_source_hears_of_that_alone),
	    cmocka_unit_test(who_falls_behind_misses_the_oldest),
	};

	return cmocka_run_group_tests_name("news", tests, NULL, NULL);
}
