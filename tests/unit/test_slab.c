/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "storage/disk_impl.h"
#include "storage/slab.h"

/* A disk of which the pool needs one function only. */
static struct {
	unsigned count;
	size_t bytes;
	int answer;
} registered;

static int
on_register(struct disk *d, const struct iovec *buffers, unsigned count)
{
	registered.count = count;
	registered.bytes = 0;
	for (unsigned i = 0; i < count; i++)
		registered.bytes += buffers[i].iov_len;
	return registered.answer;
}

static const struct disk_ops ops = {.register_buffers = on_register};
static struct disk disk = {.ops = &ops};

static void
slabs_are_aligned_and_do_not_overlap(void **state)
{
	struct slab *a, *b;
	struct slabs *p;
	bool ok;

	registered.answer = 0;
	assert_int_equal(slabs_create(&disk, 2, &p, &ok), 0);
	assert_true(ok);
	assert_int_equal(registered.count, 1);
	assert_int_equal(registered.bytes, 2 * (SLAB_HEAD_BYTES + SLAB_PAYLOAD_BYTES));
	a = slab_get(p);
	b = slab_get(p);
	assert_int_equal((uintptr_t)a->head % DISK_ALIGN, 0);
	assert_ptr_equal(a->payload, a->head + SLAB_HEAD_BYTES);
	memset(a->head, 1, SLAB_HEAD_BYTES + SLAB_PAYLOAD_BYTES);
	memset(b->head, 2, SLAB_HEAD_BYTES + SLAB_PAYLOAD_BYTES);
	assert_int_equal(a->head[0], 1);
	assert_int_equal(a->payload[SLAB_PAYLOAD_BYTES - 1], 1);
	slab_put(p, a);
	slab_put(p, b);
	slabs_destroy(p);
}

static void
pool_works_unregistered_when_memory_may_not_be_locked(void **state)
{
	struct slab *slab;
	struct slabs *p;
	bool ok = true;

	registered.answer = -ENOMEM;
	assert_int_equal(slabs_create(&disk, 1, &p, &ok), 0);
	assert_false(ok);
	slab = slab_get(p);
	assert_non_null(slab);
	slab_put(p, slab);
	slabs_destroy(p);
}

static void
empty_pool_gives_null_until_one_is_back(void **state)
{
	struct slab *a;
	struct slabs *p;

	assert_int_equal(slabs_create(&disk, 1, &p, NULL), 0);
	a = slab_get(p);
	assert_non_null(a);
	assert_null(slab_get(p));
	slab_put(p, a);
	assert_ptr_equal(slab_get(p), a);
	slab_put(p, a);
	slabs_destroy(p);
}

struct waiter {
	struct slab_waiter waiter;
	struct slabs *slabs;
	struct slab *got;
	bool wants, asks_again;
	unsigned woken, order;
};
static unsigned wake_order;

static void
on_wake(void *arg)
{
	struct waiter *w = arg;

	w->woken++;
	w->order = ++wake_order;
	if (w->wants)
		w->got = slab_get(w->slabs);
	if (w->asks_again)
		slabs_wait(w->slabs, &w->waiter);
}

static void
ask(struct waiter *w, struct slabs *p)
{
	w->slabs = p;
	w->waiter.wake = on_wake;
	w->waiter.arg = w;
	slabs_wait(p, &w->waiter);
}

static void
waiters_are_woken_in_the_order_of_asking_one_per_slab(void **state)
{
	struct waiter w[3] = {{.wants = true}, {.wants = true}, {.wants = true}};
	struct slab *a;
	struct slabs *p;

	assert_int_equal(slabs_create(&disk, 1, &p, NULL), 0);
	a = slab_get(p);
	for (int i = 0; i < 3; i++)
		ask(&w[i], p);
	for (int i = 0; i < 3; i++) {
		slab_put(p, i == 0 ? a : w[i - 1].got);
		assert_int_equal(w[i].woken, 1);
		assert_non_null(w[i].got);
		assert_false(w[i].waiter.waiting);
		if (i < 2)
			assert_int_equal(w[i + 1].woken, 0);
	}
	slab_put(p, w[2].got);
	slabs_destroy(p);
}

static void
waiter_that_takes_nothing_does_not_cost_the_next_its_turn(void **state)
{
	struct waiter idle = {.wants = false}, eager = {.wants = true};
	struct slab *a;
	struct slabs *p;

	assert_int_equal(slabs_create(&disk, 1, &p, NULL), 0);
	a = slab_get(p);
	ask(&idle, p);
	ask(&eager, p);
	slab_put(p, a);
	assert_int_equal(idle.woken, 1);
	assert_ptr_equal(eager.got, a);
	slab_put(p, a);
	slabs_destroy(p);
}

static void
waiter_that_asks_again_is_woken_by_the_next_slab_only(void **state)
{
	struct waiter w = {.asks_again = true};
	struct slab *a;
	struct slabs *p;

	assert_int_equal(slabs_create(&disk, 1, &p, NULL), 0);
	a = slab_get(p);
	ask(&w, p);
	slab_put(p, a);
	assert_int_equal(w.woken, 1);
	assert_true(w.waiter.waiting);
	a = slab_get(p);
	slab_put(p, a);
	assert_int_equal(w.woken, 2);
	slabs_forget(p, &w.waiter);
	slabs_destroy(p);
}

static void
forgotten_waiter_is_not_woken(void **state)
{
	struct waiter w[3] = {{.wants = false}};
	struct slab *a;
	struct slabs *p;

	assert_int_equal(slabs_create(&disk, 1, &p, NULL), 0);
	a = slab_get(p);
	for (int i = 0; i < 3; i++)
		ask(&w[i], p);
	slabs_forget(p, &w[1].waiter);
	slabs_forget(p, &w[1].waiter);
	slab_put(p, a);
	assert_int_equal(w[0].woken, 1);
	assert_int_equal(w[1].woken, 0);
	assert_int_equal(w[2].woken, 1);
	assert_true(w[0].order < w[2].order);
	slabs_destroy(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(slabs_are_aligned_and_do_not_overlap),
	    cmocka_unit_test(pool_works_unregistered_when_memory_may_not_be_locked),
	    cmocka_unit_test(empty_pool_gives_null_until_one_is_back),
	    cmocka_unit_test(waiters_are_woken_in_the_order_of_asking_one_per_slab),
	    cmocka_unit_test(waiter_that_takes_nothing_does_not_cost_the_next_its_turn),
	    cmocka_unit_test(waiter_that_asks_again_is_woken_by_the_next_slab_only),
	    cmocka_unit_test(forgotten_waiter_is_not_woken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
