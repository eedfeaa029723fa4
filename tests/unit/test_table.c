/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/common/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

static const struct table_column columns[] = {
    {"id", "ID", false, false, 0},
    {"name", "NAME", false, true, 0},
    {"size", "SIZE", true, false, 2},
    {"more", "AND MORE", false, false, COLUMN_EXTRA},
};

static struct table *
sample(void)
{
	struct table *t = table_create(columns, 4);

	table_add_row(t);
	table_set(t, "id", "s-1", NULL, MOOD_PLAIN);
	table_set(t, "name", "a-very-long-host-name.example", NULL, MOOD_GOOD);
	table_set(t, "size", "1.5 GiB", "1610612736", MOOD_PLAIN);
	table_add_row(t);
	table_set(t, "size", "12 B", "12", MOOD_BAD);
	table_set(t, "id", "s-22", NULL, MOOD_PLAIN);
	return t;
}

static void
expect(const struct table_style *style, const char *wanted)
{
	struct table *t = sample();
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_int_equal(table_print(t, style, out, NULL), 0);
	fclose(out);
	assert_string_equal(text, wanted);
	free(text);
	table_destroy(t);
}

static void
people_get_aligned_columns(void **state)
{
	const struct table_style style = {.header = true};

	expect(&style, "ID    NAME                              SIZE\n"
		       "s-1   a-very-long-host-name.example  1.5 GiB\n"
		       "s-22                                    12 B\n");
}

static void
narrow_terminal_cuts_what_may_be_cut(void **state)
{
	const struct table_style style = {.header = true, .width = 30}, utf8 = {.width = 30, .utf8 = true};

	expect(&style, "ID    NAME                SIZE\n"
		       "s-1   a-very-long-ho~  1.5 GiB\n"
		       "s-22                      12 B\n");
	expect(&utf8, "s-1   a-very-long-ho\xe2\x80\xa6  1.5 GiB\n"
		      "s-22                      12 B\n");
}

static void
one_narrower_still_leaves_out_what_it_can_do_without(void **state)
{
	const struct table_style style = {.header = true, .width = 18},
				 asked = {.columns = "id,name,size", .width = 18};

	expect(&style, "ID    NAME\n"
		       "s-1   a-very-long~\n"
		       "s-22\n");
	expect(&asked, "s-1   a-ver~  1.5 GiB\n"
		       "s-22             12 B\n");
}

static void
what_can_be_done_without_goes_before_names_are_hard_to_tell_apart(void **state)
{
	const struct table_style just = {.header = true, .width = 29}, narrower = {.header = true, .width = 28};

	expect(&just, "ID    NAME               SIZE\n"
		      "s-1   a-very-long-h~  1.5 GiB\n"
		      "s-22                     12 B\n");
	expect(&narrower, "ID    NAME\n"
			  "s-1   a-very-long-host-name~\n"
			  "s-22\n");
}

static void
scripts_get_tabs_and_exact_numbers(void **state)
{
	const struct table_style style = {.tabs = true, .exact = true, .width = 10};

	expect(&style, "s-1\ta-very-long-host-name.example\t1610612736\n"
		       "s-22\t\t12\n");
}

static void
columns_are_chosen_by_name_in_any_order(void **state)
{
	const struct table_style style = {.tabs = true, .columns = "more,size,id"},
				 all = {.tabs = true, .columns = "all"};

	expect(&style, "\t1.5 GiB\ts-1\n\t12 B\ts-22\n");
	expect(&all, "s-1\ta-very-long-host-name.example\t1.5 GiB\t\ns-22\t\t12 B\t\n");
}

static void
columns_are_chosen_by_what_stands_over_them(void **state)
{
	static const struct table_column crossed[] = {
	    {"id", "POINT", false, false, 0}, {"point", "NAME", false, false, 0}};
	const struct table_style title = {.tabs = true, .columns = "id,and-more,size"},
				 name = {.header = true, .columns = "point,name"};
	struct table *t = table_create(crossed, 2);
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	expect(&title, "s-1\t\t1.5 GiB\ns-22\t\t12 B\n");
	table_add_row(t);
	assert_int_equal(table_print(t, &name, out, NULL), 0); /* a name comes before a title */
	fclose(out);
	assert_memory_equal(text, "NAME  NAME\n", strlen("NAME  NAME\n"));
	free(text);
	table_destroy(t);
}

static void
unknown_column_is_named(void **state)
{
	static const char *const lists[] = {"id,nme", "", "id,", ",id", "ID", "and", "and-more-", "and more"};
	struct table *t = sample();

	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		const struct table_style style = {.columns = lists[i]};
		const char *bad = NULL;

		assert_int_equal(table_print(t, &style, stdout, &bad), -EINVAL);
		assert_true(bad >= lists[i] && bad <= lists[i] + strlen(lists[i]));
	}
	table_destroy(t);
}

static void
colour_surrounds_text_not_padding(void **state)
{
	const struct table_style style = {.color = true, .columns = "name,size,id"};

	expect(&style, "\033[32ma-very-long-host-name.example\033[0m  1.5 GiB  s-1\n"
		       "                                  \033[31m12 B\033[0m  s-22\n");
}

static void
text_from_outside_cannot_command_the_terminal(void **state)
{
	const struct table_style style = {.tabs = true};
	struct table *t = table_create(columns, 1);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	table_add_row(t);
	table_set(t, "id", "\033[2J\tbell\a\n\x7f\xc2\x9b", NULL, MOOD_PLAIN);
	table_print(t, &style, out, NULL);
	fclose(out);
	assert_string_equal(text, "?[2J?bell?????\n");
	free(text);
	table_destroy(t);
}

static void
width_counts_characters_not_bytes(void **state)
{
	const struct table_style style = {0};
	struct table *t = table_create(columns, 2);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	for (int i = 0; i < 2; i++) {
		table_add_row(t);
		table_set(t, "id", i == 0 ? "caf\xc3\xa9" : "cafe", NULL, MOOD_PLAIN);
		table_set(t, "name", "x", NULL, MOOD_PLAIN);
	}
	table_print(t, &style, out, NULL);
	fclose(out);
	assert_string_equal(text, "caf\xc3\xa9  x\ncafe  x\n");
	free(text);
	table_destroy(t);
}

static void
a_hidden_column_is_shown_to_who_asks_for_it(void **state)
{
	struct table_style style = {.header = true};
	struct table *t = sample();
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	table_hide(t, "name");
	assert_int_equal(table_print(t, &style, out, NULL), 0);
	style.columns = "name,id";
	assert_int_equal(table_print(t, &style, out, NULL), 0);
	fclose(out);
	assert_string_equal(text, "ID       SIZE\n"
				  "s-1   1.5 GiB\n"
				  "s-22     12 B\n"
				  "NAME                           ID\n"
				  "a-very-long-host-name.example  s-1\n"
				  "                               s-22\n");
	free(text);
	table_destroy(t);
}

static void
what_is_long_goes_below_its_row_where_the_terminal_is_too_narrow(void **state)
{
	static const struct table_column with_meaning[] = {
	    {"key", "KEY", false, false, 0}, {"meaning", "MEANING", false, true, COLUMN_BELOW}};
	static const char *const wanted[] = {[30] = "KEY  MEANING\na    one two three four\nb    -\n",
	    [20] = "KEY\na\n    one two three\n    four\nb\n"};
	struct table *t = table_create(with_meaning, 2);

	table_add_row(t);
	table_set(t, "key", "a", NULL, MOOD_PLAIN);
	table_set(t, "meaning", "one two three four", NULL, MOOD_PLAIN);
	table_add_row(t);
	table_set(t, "key", "b", NULL, MOOD_PLAIN);
	table_set(t, "meaning", "-", NULL, MOOD_PLAIN);
	for (int width = 20; width <= 30; width += 10) {
		const struct table_style style = {.header = true, .width = width};
		char *text = NULL;
		size_t len;
		FILE *out = open_memstream(&text, &len);

		assert_int_equal(table_print(t, &style, out, NULL), 0);
		fclose(out);
		assert_string_equal(text, wanted[width]);
		free(text);
	}
	table_destroy(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_hidden_column_is_shown_to_who_asks_for_it),
	    cmocka_unit_test(people_get_aligned_columns),
	    cmocka_unit_test(narrow_terminal_cuts_what_may_be_cut),
	    cmocka_unit_test(one_narrower_still_leaves_out_what_it_can_do_without),
	    cmocka_unit_test(what_can_be_done_without_goes_before_names_are_hard_to_tell_apart),
	    cmocka_unit_test(scripts_get_tabs_and_exact_numbers),
	    cmocka_unit_test(columns_are_chosen_by_name_in_any_order),
	    cmocka_unit_test(columns_are_chosen_by_what_stands_over_them),
	    cmocka_unit_test(unknown_column_is_named),
	    cmocka_unit_test(colour_surrounds_text_not_padding),
	    cmocka_unit_test(text_from_outside_cannot_command_the_terminal),
	    cmocka_unit_test(width_counts_characters_not_bytes),
	    cmocka_unit_test(what_is_long_goes_below_its_row_where_the_terminal_is_too_narrow),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
