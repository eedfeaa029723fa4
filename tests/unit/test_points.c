/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/points.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "storage/checkpoint.h"

static const struct id source = {"s-00000000000000001"};

/* Everything about it follows from its LSN. */
static struct checkpoint
checkpoint_at(uint64_t lsn)
{
	struct checkpoint c = {
	    .lsn = lsn,
	    .stream_id = 7,
	    .clock_ns = (int64_t)lsn * 1000,
	    .running_ns = (int64_t)lsn * 10,
	    .consistency = CHECKPOINT_CRASH,
	    .complete = true,
	    .volume_count = 1 + lsn / 1000 % 3,
	};

	for (uint32_t i = 0; i < c.volume_count; i++) {
		c.volumes[i].volume = i + 1;
		c.volumes[i].size_bytes = 4096 * (lsn / 1000 + i);
	}
	return c;
}

static void
expect_mark(const struct marks *m, size_t i, uint64_t lsn)
{
	struct checkpoint wanted = checkpoint_at(lsn), c;

	marks_get(m, i, &c);
	assert_int_equal(c.lsn, lsn);
	assert_int_equal(c.clock_ns, wanted.clock_ns);
	assert_int_equal(c.running_ns, wanted.running_ns);
	assert_int_equal(c.volume_count, wanted.volume_count);
	assert_memory_equal(c.volumes, wanted.volumes, c.volume_count * sizeof c.volumes[0]);
}

static void
expect_marks(const struct marks *m, uint64_t first, uint64_t last)
{
	size_t i;

	assert_int_equal(m->count, last - first + 1);
	for (uint64_t lsn = first; lsn <= last; lsn++) {
		expect_mark(m, lsn - first, lsn);
		assert_true(marks_find(m, lsn, &i));
		assert_int_equal(i, lsn - first);
	}
	assert_false(marks_find(m, last + 1, &i));
	assert_int_equal(i, m->count);
}

static void
add(struct marks *m, uint64_t lsn)
{
	struct checkpoint c = checkpoint_at(lsn);

	assert_int_equal(marks_add(m, &c), 0);
}

/* ---- marks ---- */

static void
marks_come_at_one_end_and_go_at_the_other(void **state)
{
	struct marks m = {0};
	uint64_t first = 1;

	(void)state;
	for (uint64_t lsn = 1; lsn <= 3000; lsn++) {
		add(&m, lsn);
		if (lsn % 5 == 0)
			marks_drop_before(&m, first += lsn % 7);
		if (lsn % 100 == 0)
			expect_marks(&m, first, lsn);
	}
	marks_fini(&m);
}

static void
marks_that_all_go_make_room_for_others(void **state)
{
	static const uint64_t counts[] = {1, 2, 127, 128, 129, 130, 300};
	struct marks m = {0};
	uint64_t last = 0;

	(void)state;
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
		uint64_t first = last + 1;

		while (last < first + counts[i] - 1)
			add(&m, ++last);
		expect_marks(&m, first, last);
		marks_drop_before(&m, last + 1);
		assert_int_equal(m.count, 0);
	}
	marks_fini(&m);
}

static void
a_volume_takes_its_marks_along(void **state)
{
	struct marks m = {0};

	(void)state;
	for (uint64_t lsn = 500; lsn < 2500; lsn++)
		add(&m, lsn);
	assert_int_equal(marks_first_with(&m, 3), 2000);
	marks_drop_volume(&m, 3);
	expect_marks(&m, 500, 1999);
	add(&m, 3000);
	expect_mark(&m, m.count - 1, 3000);
	marks_drop_volume(&m, 2);
	expect_mark(&m, 499, 999);
	expect_mark(&m, 500, 3000);
	assert_int_equal(m.count, 501);
	marks_fini(&m);
}

static void
a_copy_stays_as_it_is(void **state)
{
	struct marks m = {0}, copies[8];

	(void)state;
	for (uint64_t lsn = 1; lsn <= 800; lsn++) {
		add(&m, lsn);
		if (lsn % 100 == 0) {
			assert_int_equal(marks_share(&m, &copies[lsn / 100 - 1]), 0);
			m.newest.unchanged_until_ns += 5;
			marks_drop_before(&m, lsn - 90);
		}
	}
	marks_fini(&m);
	for (uint64_t i = 0; i < 8; i++) {
		expect_marks(&copies[i], i == 0 ? 1 : i * 100 - 90, (i + 1) * 100);
		assert_int_equal(copies[i].newest.unchanged_until_ns, copies[i].newest.clock_ns);
		marks_fini(&copies[i]);
	}
}

/* ---- points ---- */

static struct pit
row_at(uint64_t lsn)
{
	struct checkpoint c = checkpoint_at(lsn);
	struct pit p = {.id = checkpoint_pit_id(&source, lsn, c.stream_id), .lsn = lsn, .kept = true, .checkpoint = c};

	return p;
}

/* Marks 300 to 1000, of which those from 400 on are points; rows at all LSNs that 50 divides, from 50 to 1,000. */
static struct points *
make_points(struct shared **own)
{
	struct pit *rows = calloc(20, sizeof *rows);
	struct points *p = points_create(&source);

	for (size_t i = 0; i < 20; i++)
		rows[i] = row_at((i + 1) * 50);
	p->rows = rows;
	p->row_count = 20;
	p->rows_shared = shared_show(own, rows);
	for (uint64_t lsn = 300; lsn <= 1000; lsn++)
		add(&p->marks, lsn);
	p->fold_lsn = 350;
	p->begin_ns = 4000;
	return p;
}

/* The k-th of all. */
static uint64_t
lsn_of(size_t k)
{
	return k < 7 ? (k + 1) * 50 : 400 + (k - 7);
}

enum { POINTS = 7 + 601 };

static void
expect_point(const struct pit *p, uint64_t lsn)
{
	struct pit wanted = row_at(lsn);

	assert_int_equal(p->lsn, lsn);
	assert_int_equal(p->kept, lsn % 50 == 0);
	assert_string_equal(p->id.text, wanted.id.text);
	assert_int_equal(p->checkpoint.volume_count, wanted.checkpoint.volume_count);
}

static void
points_are_rows_and_what_the_window_holds(void **state)
{
	struct shared *own = NULL;
	struct points *p = make_points(&own);
	struct pit *list;
	size_t count;
	bool more;

	(void)state;
	assert_int_equal(points_list(p, UINT64_MAX, SIZE_MAX, &list, &count, &more), 0);
	assert_int_equal(count, POINTS);
	assert_false(more);
	for (size_t i = 0; i < count; i++)
		expect_point(&list[i], lsn_of(i));
	free(list);
	points_unref(p);
	shared_drop(&own, NULL);
}

static void
pages_of_any_length_join_up(void **state)
{
	struct shared *own = NULL;
	struct points *p = make_points(&own);

	(void)state;
	for (size_t length = 1; length < POINTS + 20; length += length < 10 ? 1 : 97) {
		uint64_t before = UINT64_MAX;
		size_t left = POINTS, count;
		bool more = true;

		while (more) {
			struct pit *list;

			assert_int_equal(points_list(p, before, length, &list, &count, &more), 0);
			assert_int_equal(count, length < left ? length : left);
			for (size_t i = 0; i < count; i++)
				expect_point(&list[i], lsn_of(left - count + i));
			left -= count;
			before = list[0].lsn;
			free(list);
		}
		assert_int_equal(left, 0);
	}
	points_unref(p);
	shared_drop(&own, NULL);
}

static void
a_point_is_found_by_its_lsn_alone(void **state)
{
	struct shared *own = NULL;
	struct points *p = make_points(&own);
	struct pit pit;

	(void)state;
	for (size_t i = 0; i < POINTS; i++) {
		assert_true(points_find(p, lsn_of(i), &pit));
		expect_point(&pit, lsn_of(i));
	}
	assert_false(points_find(p, 0, &pit));
	assert_false(points_find(p, 51, &pit));
	assert_false(points_find(p, 399, &pit));
	assert_false(points_find(p, 1001, &pit));
	assert_false(points_find(p, UINT64_MAX, &pit));
	points_unref(p);
	shared_drop(&own, NULL);
}

static void
a_point_is_found_by_its_id(void **state)
{
	struct shared *own = NULL;
	struct points *p = make_points(&own);
	struct pit pit;

	(void)state;
	for (size_t i = 0; i < POINTS; i += 50) {
		struct pit wanted = row_at(lsn_of(i));

		assert_true(points_find_id(p, &wanted.id, &pit));
		expect_point(&pit, lsn_of(i));
	}
	pit = row_at(399);
	assert_false(points_find_id(p, &pit.id, &pit));
	points_unref(p);
	shared_drop(&own, NULL);
}

static void
costs_are_those_of_rows_before_the_window(void **state)
{
	struct account_point costs[] = {
	    {.lsn = 50, .unique_bytes = 5, .freed_bytes = 6}, {.lsn = 900, .unique_bytes = 7, .freed_bytes = 8}};
	struct shared *own = NULL;
	struct points *p = make_points(&own);
	struct pit pit;

	(void)state;
	p->account = (struct account){.points = costs, .count = 2};
	p->window_lsn = 400;
	assert_true(points_find(p, 50, &pit));
	assert_true(pit.accounted);
	assert_int_equal(pit.unique_bytes, 5);
	assert_int_equal(pit.freed_bytes, 6);
	assert_true(points_find(p, 100, &pit));
	assert_false(pit.accounted);
	assert_true(points_find(p, 900, &pit));
	assert_true(pit.accounted);
	assert_int_equal(pit.unique_bytes, 0);
	points_unref(p);
	shared_drop(&own, NULL);
}

/* ---- shown to others ---- */

static void
rows_stay_for_whoever_was_shown_them(void **state)
{
	struct shared *own = NULL;
	struct points *p = make_points(&own), *again = points_ref(p);
	struct pit pit;

	(void)state;
	shared_drop(&own, NULL); /* the store has others now */
	assert_null(own);
	points_unref(p);
	assert_true(points_find(again, 100, &pit));
	expect_point(&pit, 100);
	points_unref(again);
}

struct window {
	pthread_mutex_t lock;
	struct points *points; /* NULL: the end */
};

static void
show(struct window *w, struct points *p)
{
	struct points *old;

	pthread_mutex_lock(&w->lock);
	old = w->points;
	w->points = p;
	pthread_mutex_unlock(&w->lock);
	points_unref(old);
}

static void *
read_on(void *arg)
{
	struct window *w = arg;

	for (;;) {
		struct points *p;
		struct pit *list;
		size_t count;
		bool more;

		pthread_mutex_lock(&w->lock);
		p = points_ref(w->points);
		pthread_mutex_unlock(&w->lock);
		if (p == NULL)
			return NULL;
		assert_int_equal(points_list(p, UINT64_MAX, 40, &list, &count, &more), 0);
		for (size_t i = 1; i < count; i++)
			assert_int_equal(list[i].lsn, list[i - 1].lsn + 1);
		assert_int_equal(list[count - 1].lsn, p->marks.newest.lsn);
		free(list);
		points_unref(p);
	}
}

/* What is read on one thread is being added to on another. */
static void
points_are_read_while_others_come_and_go(void **state)
{
	struct window w = {PTHREAD_MUTEX_INITIALIZER, points_create(&source)};
	struct marks m = {0};
	pthread_t thread;

	(void)state;
	add(&w.points->marks, 1);
	assert_int_equal(pthread_create(&thread, NULL, read_on, &w), 0);
	for (uint64_t lsn = 1; lsn <= 3000; lsn++) {
		struct points *p = points_create(&source);

		add(&m, lsn);
		m.newest.unchanged_until_ns++;
		if (lsn > 300)
			marks_drop_before(&m, lsn - 300);
		assert_int_equal(marks_share(&m, &p->marks), 0);
		show(&w, p);
	}
	show(&w, NULL);
	pthread_join(thread, NULL);
	marks_fini(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(marks_come_at_one_end_and_go_at_the_other),
	    cmocka_unit_test(marks_that_all_go_make_room_for_others),
	    cmocka_unit_test(a_volume_takes_its_marks_along),
	    cmocka_unit_test(a_copy_stays_as_it_is),
	    cmocka_unit_test(points_are_rows_and_what_the_window_holds),
	    cmocka_unit_test(pages_of_any_length_join_up),
	    cmocka_unit_test(a_point_is_found_by_its_lsn_alone),
	    cmocka_unit_test(a_point_is_found_by_its_id),
	    cmocka_unit_test(costs_are_those_of_rows_before_the_window),
	    cmocka_unit_test(rows_stay_for_whoever_was_shown_them),
	    cmocka_unit_test(points_are_read_while_others_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
