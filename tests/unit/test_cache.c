// The packet ring against a naive model: any order, gaps, wrap-around of its slots, growth.
#include "../../dataplane/cache.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL 200000
static uint8_t alive[MODEL]; // packet number -> references that the ring holds

static void release(void *packet)
{
    uintptr_t n = (uintptr_t)packet;
    assert_int_equal(alive[n], 1);
    alive[n] = 0;
}

static void *packet(uint64_t index)
{
    return (void *)(uintptr_t)index;
}

static void test_put_and_get(void **state)
{
    struct cache cache;
    memset(alive, 0, sizeof(alive));
    assert_int_equal(cache_init(&cache, 16, 64, 1000000000, release), 0);
    assert_null(cache_get(&cache, 0));
    for (uint64_t i = 1000; i < 1016; i++) {
        alive[i] = 1;
        assert_int_equal(cache_put(&cache, i, packet(i)), 0);
    }
    assert_int_equal(cache_put(&cache, 1005, packet(1)), -EEXIST);
    assert_int_equal(cache_put(&cache, 999, packet(1)), -ESTALE);
    assert_ptr_equal(cache_get(&cache, 1000), packet(1000));
    alive[1016] = 1;
    assert_int_equal(cache_put(&cache, 1016, packet(1016)), 0);
    assert_null(cache_get(&cache, 1000));
    assert_int_equal(alive[1000], 0);
    // A jump empties what was never received.
    alive[1030] = 1;
    assert_int_equal(cache_put(&cache, 1030, packet(1030)), 0);
    assert_null(cache_get(&cache, 1014));
    assert_non_null(cache_get(&cache, 1015));
    assert_null(cache_get(&cache, 1020));
    assert_int_equal(cache.used, 3);
    // A late packet finds its place.
    alive[1020] = 1;
    assert_int_equal(cache_put(&cache, 1020, packet(1020)), 0);
    assert_non_null(cache_get(&cache, 1020));
    cache_free(&cache);
    for (int i = 0; i < MODEL; i++)
        assert_int_equal(alive[i], 0);
}

static void test_random_against_model(void **state)
{
    struct cache cache;
    memset(alive, 0, sizeof(alive));
    srandom(7);
    assert_int_equal(cache_init(&cache, 32, 32, 1000000000, release), 0);
    uint64_t head = 5000;
    for (int step = 0; step < 100000; step++) {
        head += (uint64_t)(random() % 100 < 3 ? random() % 60 : random() % 2);
        if (head >= MODEL)
            break;
        uint64_t index = head - (uint64_t)(random() % 40);
        int before = alive[index];
        bool stale = cache.started && index <= cache.highest && cache.highest - index > 31;
        int expected = stale ? -ESTALE : before ? -EEXIST : 0;
        if (expected == 0)
            alive[index] = 1;
        assert_int_equal(cache_put(&cache, index, packet(index)), expected);
        if (stale && !before)
            alive[index] = 0;
        uint64_t probe = head - (uint64_t)(random() % 50);
        assert_ptr_equal(cache_get(&cache, probe), alive[probe] ? packet(probe) : NULL);
    }
    cache_free(&cache);
}

static void test_grows_and_shrinks_with_the_rate(void **state)
{
    struct cache cache;
    memset(alive, 0, sizeof(alive));
    assert_int_equal(cache_init(&cache, 16, 1024, 1000000000, release), 0);
    uint64_t now = 1000000000, index = 1;
    for (int ms = 0; ms < 3000; ms++, now += 1000000) { // 400 packets a second
        if (ms % 5 < 2) {
            alive[index] = 1;
            assert_int_equal(cache_put(&cache, index, packet(index)), 0);
            index++;
        }
        cache_resize(&cache, now, UINT32_MAX);
    }
    assert_int_equal(cache.mask + 1, 512);
    assert_non_null(cache_get(&cache, index - 400));     // a second ago
    for (int ms = 0; ms < 20000; ms++, now += 1000000) { // 10 packets a second
        if (ms % 100 == 0) {
            alive[index] = 1;
            assert_int_equal(cache_put(&cache, index, packet(index)), 0);
            index++;
        }
        cache_resize(&cache, now, UINT32_MAX);
    }
    assert_in_range(cache.mask + 1, 16, 32);
    for (int i = 0; i < 12; i++)
        assert_non_null(cache_get(&cache, index - 1 - (uint64_t)i));
    cache_clear(&cache, 0);
    assert_int_equal(cache.used, 0);
    cache_free(&cache);
}

static void fill(struct cache *cache, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        alive[i] = 1;
        assert_int_equal(cache_put(cache, i, packet(i)), 0);
    }
}

static void test_grows_only_into_spare_room(void **state)
{
    struct cache cache;
    memset(alive, 0, sizeof(alive));
    assert_int_equal(cache_init(&cache, 16, 1024, 1000000000, release), 0);
    uint64_t now = 1000000000;
    fill(&cache, 1, 2);
    cache_resize(&cache, now, 0);
    fill(&cache, 2, 400);
    now += 1000000000;
    assert_false(cache_resize(&cache, now, 15)); // 32 slots would take 16 more
    fill(&cache, 400, 800);
    now += 1000000000;
    assert_true(cache_resize(&cache, now, 112));
    assert_int_equal(cache_slots(&cache), 128); // 512 are wanted
    fill(&cache, 800, 1200);
    now += 1000000000;
    assert_true(cache_resize(&cache, now, 5000));
    assert_int_equal(cache_slots(&cache), 512);
    assert_non_null(cache_get(&cache, 1199 - 127));
    assert_null(cache_get(&cache, 1199 - 128));
    cache_free(&cache);
}

static void test_halves_down_to_the_least(void **state)
{
    struct cache cache;
    memset(alive, 0, sizeof(alive));
    assert_int_equal(cache_init(&cache, 64, 1024, 1000000000, release), 0);
    fill(&cache, 1000, 1064);
    assert_true(cache_halve(&cache));
    assert_int_equal(cache.used, 32);
    assert_non_null(cache_get(&cache, 1063));
    assert_non_null(cache_get(&cache, 1032));
    assert_null(cache_get(&cache, 1031));
    assert_int_equal(alive[1031], 0);
    assert_true(cache_halve(&cache));
    assert_false(cache_halve(&cache));
    assert_int_equal(cache_slots(&cache), 16);
    fill(&cache, 1064, 1100); // goes on as ever
    assert_non_null(cache_get(&cache, 1084));
    cache_free(&cache);
}

// What was let go of may not come back as another packet: viewers have had that index.
static void test_takes_nothing_below_its_floor(void **state)
{
    struct cache cache;
    memset(alive, 0, sizeof(alive));
    assert_int_equal(cache_init(&cache, 16, 1024, 1000000000, release), 0);
    uint64_t now = 1000000000;
    fill(&cache, 1, 2);
    cache_resize(&cache, now, UINT32_MAX);
    fill(&cache, 2, 400);
    assert_true(cache_resize(&cache, now + 1000000000, UINT32_MAX));
    assert_true(cache_slots(&cache) > 256);
    assert_int_equal(cache_put(&cache, 399 - 16, packet(1)), -ESTALE); // was pushed out
    assert_int_equal(cache_put(&cache, 399 - 15, packet(1)), -EEXIST);
    cache_clear(&cache, 500);
    assert_int_equal(cache_put(&cache, 499, packet(1)), -ESTALE);
    fill(&cache, 510, 511);
    assert_int_equal(cache_put(&cache, 499, packet(1)), -ESTALE);
    fill(&cache, 500, 501);
    cache_clear(&cache, 100); // another space begins lower
    fill(&cache, 100, 101);
    cache_free(&cache);
}

// ---- a stream's life against a model: rates that change, loss, reordering, duplicates, sequence
// numbers that wrap, a ring that grows and shrinks under a virtual clock

#define MS UINT64_C(1000000)
#define SPAN_MS 1000
#define LIFE_MIN 64
#define LIFE_MAX 1024

// The naive ring: what was put and has not fallen out of the window behind the highest.
struct life {
    struct cache cache;
    uint64_t now_ns, highest;
    uint64_t oldest; // nothing below it is held
    uint64_t floor;  // nor taken: it may have been held, and let go by a smaller ring
    uint64_t steady_since_ns;
    unsigned rate; // packets a second
};

static void fall_out(struct life *life)
{
    uint64_t slots = cache_slots(&life->cache);
    if (life->highest + 1 > slots && life->highest + 1 - slots > life->oldest)
        life->oldest = life->highest + 1 - slots;
}

static bool held(const struct life *life, uint64_t index, const uint8_t *put)
{
    return index >= life->oldest && index <= life->highest && put[index];
}

static void offer(struct life *life, uint64_t index, uint8_t *put)
{
    bool stale = index < life->floor ||
                 (life->highest > index && life->highest - index >= cache_slots(&life->cache));
    int expected = stale ? -ESTALE : held(life, index, put) ? -EEXIST : 0;
    if (expected == 0)
        alive[index] = 1;
    assert_int_equal(cache_put(&life->cache, index, packet(index)), expected);
    if (expected)
        return;
    // Between the floor and a smaller ring's end there may be room again.
    life->oldest = index < life->oldest ? index : life->oldest;
    put[index] = 1;
    life->highest = index > life->highest ? index : life->highest;
    fall_out(life);
}

static void compare(const struct life *life, const uint8_t *put)
{
    uint32_t used = 0;
    uint64_t from = life->highest > LIFE_MAX + 50 ? life->highest - LIFE_MAX - 50 : 1;
    for (uint64_t i = from; i <= life->highest + 5; i++) {
        bool there = held(life, i, put);
        used += there;
        assert_ptr_equal(cache_get(&life->cache, i), there ? packet(i) : NULL);
        assert_int_equal(alive[i], there);
    }
    assert_int_equal(life->cache.used, used);
}

static void note_size(struct life *life, uint32_t before)
{
    uint32_t after = cache_slots(&life->cache), kept = after < before ? after : before;
    if (after != before && life->highest >= kept && life->highest - kept + 1 > life->floor)
        life->floor = life->highest - kept + 1;
    fall_out(life);
    if (life->oldest < life->floor)
        life->oldest = life->floor;
}

static void adapt(struct life *life, uint32_t spare)
{
    uint32_t before = cache_slots(&life->cache);
    bool changed = cache_resize(&life->cache, life->now_ns, spare);
    uint32_t after = cache_slots(&life->cache);
    assert_int_equal(changed, after != before);
    assert_in_range(after, before < LIFE_MIN ? before : LIFE_MIN, LIFE_MAX);
    assert_true(after < before ? after == before / 2 : after - before <= spare);
    note_size(life, before);
    if (life->now_ns - life->steady_since_ns > 1600 * MS && spare >= LIFE_MAX) {
        uint32_t need = life->rate * SPAN_MS / 1000;
        assert_true(after >= (need < LIFE_MAX ? need : LIFE_MAX)); // a second, within the bound
    }
    if (life->now_ns - life->steady_since_ns > 5000 * MS && spare >= LIFE_MAX)
        assert_true(after <= LIFE_MIN || after <= 8 * life->rate * SPAN_MS / 1000); // and no sea
}

static void test_a_life_against_the_model(void **state)
{
    static const unsigned rates[] = {40, 1000, 150, 400, 20, 2000, 40, 700};
    static uint8_t put[MODEL];
    struct life life = {.now_ns = 5000 * MS};
    memset(alive, 0, sizeof(alive));
    srandom(9);
    assert_int_equal(cache_init(&life.cache, LIFE_MIN, LIFE_MAX, SPAN_MS * MS, release), 0);
    uint64_t next = 65500, late[32] = {0}; // wraps after a second
    double due = 0;
    for (unsigned ms = 0; ms < 64000; ms++, life.now_ns += MS) {
        if (ms % 8000 == 0) {
            life.rate = rates[ms / 8000];
            life.steady_since_ns = life.now_ns;
        }
        for (due += life.rate / 1000.0; due >= 1; due -= 1, next++) {
            unsigned luck = (unsigned)(random() % 100);
            uint64_t *waiting = &late[random() % 32];
            if (luck < 10 && *waiting) // one that was held back, or is sent again
                offer(&life, *waiting, put);
            if (luck < 20)
                *waiting = next;
            else
                offer(&life, next, put);
            if (luck > 97)
                offer(&life, next, put); // twice
        }
        if (ms % 10 == 0)
            adapt(&life, random() % 20 ? UINT32_MAX : (uint32_t)(random() % 200));
        uint32_t before = cache_slots(&life.cache);
        if (ms % 997 == 0 && cache_halve(&life.cache)) // memory is short
            life.steady_since_ns = life.now_ns;
        note_size(&life, before);
        if (ms % 50 == 0 && life.highest)
            compare(&life, put);
    }
    assert_true(next > 65536 + 30000);
    cache_free(&life.cache);
    for (int i = 0; i < MODEL; i++)
        assert_int_equal(alive[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_get),
        cmocka_unit_test(test_random_against_model),
        cmocka_unit_test(test_grows_and_shrinks_with_the_rate),
        cmocka_unit_test(test_grows_only_into_spare_room),
        cmocka_unit_test(test_halves_down_to_the_least),
        cmocka_unit_test(test_a_life_against_the_model),
        cmocka_unit_test(test_takes_nothing_below_its_floor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
