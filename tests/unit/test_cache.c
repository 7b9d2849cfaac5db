// The packet ring against a naive model: any order, gaps, wrap-around of its slots, growth; and the
// store that rings share: what a packet takes of it, who gives way when it is short.
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
#define BLOCKS 256

static struct cache_store *store;

static int make_store(void **state)
{
    store = cache_store_new(BLOCKS, false);
    return store ? 0 : -1;
}

// Whatever a test does, no byte is lost.
static int free_store(void **state)
{
    assert_int_equal(store->free, store->blocks);
    assert_int_equal(store->rings, 0);
    cache_store_free(store);
    return 0;
}

// A packet says in all its bytes whose it is.
static size_t packet_size(const struct cache *cache, uint64_t index)
{
    return 16 + (index * 37 + (uintptr_t)cache / 64) % 700;
}

static void fill_packet(const struct cache *cache, uint64_t index, uint8_t *packet)
{
    memset(packet, (int)(index * 7 + (uintptr_t)cache / 64), packet_size(cache, index));
    memcpy(packet, &index, sizeof(index));
    memcpy(packet + 8, &cache, sizeof(cache));
}

static int put(struct cache *cache, uint64_t index)
{
    uint8_t packet[1024];
    fill_packet(cache, index, packet);
    return cache_put(cache, index, packet, packet_size(cache, index));
}

static bool has(const struct cache *cache, uint64_t index)
{
    uint8_t packet[1024];
    const uint8_t *found = cache_get(cache, index);
    if (!found)
        return false;
    fill_packet(cache, index, packet);
    assert_int_equal((uintptr_t)found % 8, 0);
    assert_memory_equal(found, packet, packet_size(cache, index));
    return true;
}

static void test_put_and_get(void **state)
{
    struct cache cache;
    assert_int_equal(cache_init(&cache, store, 16, 64, 1000000000), 0);
    assert_false(has(&cache, 0));
    for (uint64_t i = 1000; i < 1016; i++)
        assert_int_equal(put(&cache, i), 0);
    assert_int_equal(cache.used, 16);
    assert_int_equal(put(&cache, 1005), -EEXIST);
    assert_int_equal(put(&cache, 999), -ESTALE);
    assert_true(has(&cache, 1000));
    // One more pushes the oldest out.
    assert_int_equal(put(&cache, 1016), 0);
    assert_false(has(&cache, 1000));
    // A gap empties the slots of what was never received.
    assert_int_equal(put(&cache, 1030), 0);
    assert_false(has(&cache, 1014));
    assert_true(has(&cache, 1015));
    assert_false(has(&cache, 1020));
    assert_int_equal(cache.used, 3); // 1015, 1016, 1030
    // A late packet goes into its place.
    assert_int_equal(put(&cache, 1020), 0);
    assert_true(has(&cache, 1020));
    cache_free(&cache);
}

static void test_random_against_model(void **state)
{
    static uint8_t there[MODEL];
    struct cache cache;
    uint64_t highest = 0;
    memset(there, 0, sizeof(there));
    srandom(7);
    assert_int_equal(cache_init(&cache, store, 32, 32, 1000000000), 0);
    uint64_t next = 65500;
    for (int step = 0; step < 40000; step++) {
        uint64_t index = next;
        if (random() % 4 == 0)
            index = next - (uint64_t)(random() % 60);
        else
            next += 1 + (random() % 20 == 0 ? (uint64_t)(random() % 50) : 0);
        index = index < MODEL ? index : MODEL - 1;
        int expected = highest && index + 32 <= highest ? -ESTALE : there[index] ? -EEXIST : 0;
        assert_int_equal(put(&cache, index), expected);
        if (expected == 0)
            there[index] = 1;
        highest = index > highest ? index : highest;
        uint64_t probe = highest - (uint64_t)(random() % 40);
        assert_int_equal(has(&cache, probe), there[probe] && probe + 32 > highest);
    }
    cache_free(&cache);
}

static void test_grows_and_shrinks_with_the_rate(void **state)
{
    struct cache cache;
    assert_int_equal(cache_init(&cache, store, 16, 1024, 1000000000), 0);
    uint64_t index = 1, now = 1000000000;
    for (int tenth = 0; tenth < 40; tenth++) { // 400 packets a second
        for (int i = 0; i < 40; i++, index++)
            assert_int_equal(put(&cache, index), 0);
        now += 100000000;
        cache_resize(&cache, now);
    }
    assert_int_equal(cache_slots(&cache), 512);
    assert_true(has(&cache, index - 400));     // a second ago
    for (int tenth = 0; tenth < 60; tenth++) { // then 20
        for (int i = 0; i < 2; i++, index++)
            assert_int_equal(put(&cache, index), 0);
        now += 100000000;
        cache_resize(&cache, now);
    }
    assert_in_range(cache_slots(&cache), 32, 64);
    for (int i = 0; i < 20; i++)
        assert_true(has(&cache, index - 1 - (uint64_t)i));
    cache_clear(&cache, 0);
    assert_int_equal(cache.used, 0);
    assert_int_equal(store->free, BLOCKS);
    cache_free(&cache);
}

static void fill(struct cache *cache, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        assert_int_equal(put(cache, i), 0);
}

// What a smaller ring let go of may not come again: other bytes might stand under its index.
static void test_what_is_gone_stays_gone(void **state)
{
    struct cache cache;
    assert_int_equal(cache_init(&cache, store, 16, 1024, 1000000000), 0);
    fill(&cache, 1, 400);
    cache_resize(&cache, 1000000000);
    fill(&cache, 400, 800);
    assert_true(cache_resize(&cache, 2000000000));
    assert_int_equal(cache_slots(&cache), 512);
    assert_int_equal(put(&cache, 799 - 16), -ESTALE); // was pushed out
    assert_int_equal(put(&cache, 799 - 15), -EEXIST);
    fill(&cache, 800, 1200);
    uint32_t held = cache.pen.held;
    cache_relieve(&cache);
    assert_in_range(cache.pen.held, 1, held / 2);
    assert_true(has(&cache, 1199));
    uint64_t gone = cache.floor - 1;
    assert_in_range(gone, 800, 1198);
    assert_false(has(&cache, gone));
    assert_true(has(&cache, gone + 1));
    assert_int_equal(put(&cache, gone), -ESTALE);
    cache_clear(&cache, 2000);
    assert_int_equal(put(&cache, 1999), -ESTALE);
    fill(&cache, 2000, 2010);
    assert_int_equal(put(&cache, 1999), -ESTALE);
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

// The naive ring: what was put and has not fallen out of the window behind the highest. Where the
// ring says that memory was short and below which index it holds nothing, it is believed.
struct life {
    struct cache cache;
    uint64_t now_ns, highest;
    uint64_t oldest; // nothing below it is held
    uint64_t floor;  // nor taken: it may have been held, and let go
    uint64_t steady_since_ns;
    unsigned rate; // packets a second
};

static void fall_out(struct life *life)
{
    uint64_t slots = cache_slots(&life->cache);
    assert_true(life->cache.floor >= life->floor);
    life->floor = life->cache.floor;
    if (life->highest + 1 > slots && life->highest + 1 - slots > life->oldest)
        life->oldest = life->highest + 1 - slots;
    if (life->oldest < life->floor)
        life->oldest = life->floor;
}

static bool held(const struct life *life, uint64_t index, const uint8_t *there)
{
    return index >= life->oldest && index <= life->highest && there[index];
}

static void offer(struct life *life, uint64_t index, uint8_t *there)
{
    bool stale = index < life->floor ||
                 (life->highest > index && life->highest - index >= cache_slots(&life->cache));
    int expected = stale ? -ESTALE : held(life, index, there) ? -EEXIST : 0;
    int rc = put(&life->cache, index);
    if (expected == 0 && index < life->cache.floor)
        expected = -ESTALE; // it was among the oldest, which had to go for it
    assert_int_equal(rc, expected);
    if (rc == 0) {
        // Between the floor and a smaller ring's end there may be room again.
        life->oldest = index < life->oldest ? index : life->oldest;
        there[index] = 1;
        life->highest = index > life->highest ? index : life->highest;
    }
    fall_out(life);
}

static void compare(const struct life *life, const uint8_t *there)
{
    uint32_t used = 0;
    uint64_t from = life->highest > LIFE_MAX + 50 ? life->highest - LIFE_MAX - 50 : 1;
    for (uint64_t i = from; i <= life->highest + 5; i++) {
        used += held(life, i, there);
        assert_int_equal(has(&life->cache, i), held(life, i, there));
    }
    assert_int_equal(life->cache.used, used);
}

static void adapt(struct life *life)
{
    uint32_t before = cache_slots(&life->cache);
    uint64_t floor = life->cache.floor;
    bool changed = cache_resize(&life->cache, life->now_ns);
    uint32_t after = cache_slots(&life->cache), kept = after < before ? after : before;
    assert_int_equal(changed, after != before);
    assert_in_range(after, LIFE_MIN, LIFE_MAX);
    assert_true(after >= before || after == before / 2);
    if (changed && life->highest >= kept && life->highest - kept + 1 > floor)
        floor = life->highest - kept + 1;
    assert_int_equal(life->cache.floor, floor);
    fall_out(life);
    if (life->now_ns - life->steady_since_ns > 1600 * MS) {
        uint32_t need = life->rate * SPAN_MS / 1000;
        assert_true(after >= (need < LIFE_MAX ? need : LIFE_MAX)); // a second, within the bound
    }
    if (life->now_ns - life->steady_since_ns > 5000 * MS)
        assert_true(after <= LIFE_MIN || after <= 8 * life->rate * SPAN_MS / 1000); // and no sea
}

static void test_a_life_against_the_model(void **state)
{
    static const unsigned rates[] = {40, 1000, 150, 400, 20, 2000, 40, 700};
    static uint8_t there[MODEL];
    struct life life = {.now_ns = 5000 * MS};
    memset(there, 0, sizeof(there));
    srandom(9);
    assert_int_equal(cache_init(&life.cache, store, LIFE_MIN, LIFE_MAX, SPAN_MS * MS), 0);
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
                offer(&life, *waiting, there);
            if (luck < 20)
                *waiting = next;
            else
                offer(&life, next, there);
            if (luck > 97)
                offer(&life, next, there); // twice
        }
        if (ms % 10 == 0)
            adapt(&life);
        if (ms % 997 == 0) { // memory is short
            cache_relieve(&life.cache);
            fall_out(&life);
        }
        if (ms % 50 == 0 && life.highest)
            compare(&life, there);
    }
    assert_true(next > 65536 + 30000);
    cache_free(&life.cache);
}

// A publisher may leave out as many numbers as it likes, in each packet: none costs more than a few
// looks at the ring, what is held stays right, and what has fallen out is let go of soon.
static void test_jumps_cost_little(void **state)
{
    enum { SLOTS = 1024 };
    static uint8_t there[MODEL];
    struct cache cache;
    memset(there, 0, sizeof(there));
    srandom(3);
    assert_int_equal(cache_init(&cache, store, SLOTS, SLOTS, SPAN_MS * MS), 0);
    uint64_t next = 1;
    for (int step = 0; step < 6000; step++) {
        uint32_t used = cache.used;
        bool calm = step % 2000 < 1500;
        next += calm ? 1 : 1 + (uint64_t)random() % (2 * SLOTS);
        if (next >= MODEL)
            break;
        assert_int_equal(put(&cache, next), 0);
        there[next] = 1;
        assert_true(cache.used + CACHE_SWEEP >= used);
        uint64_t late = next - (uint64_t)random() % SLOTS;
        if (step % 3 == 0 && late < next) {
            assert_int_equal(put(&cache, late), there[late] ? -EEXIST : 0);
            there[late] = 1;
        }
        if (step % 50)
            continue;
        uint32_t held = 0;
        for (uint64_t i = next < SLOTS ? 0 : next - SLOTS + 1; i <= next; i++) {
            assert_int_equal(has(&cache, i), there[i]);
            held += there[i];
        }
        assert_true(cache.used >= held);
        if (step % 2000 > 3 * SLOTS / CACHE_SWEEP && calm)
            assert_int_equal(cache.used, held);
    }
    assert_true(next > 4 * SLOTS);
    cache_relieve(&cache);
    cache_free(&cache);
}

// What is left out asks for no room either: a ring grows by what it holds.
static void test_jumps_grow_nothing(void **state)
{
    struct cache cache;
    uint64_t index = 1, now = 1000 * MS;
    assert_int_equal(cache_init(&cache, store, 64, 16384, 1000 * MS), 0);
    for (int n = 0; n < 500; n++, index += 32767, now += 10 * MS) { // 100 a second
        assert_int_equal(put(&cache, index), 0);
        cache_resize(&cache, now);
    }
    assert_in_range(cache_slots(&cache), 64, 256);
    cache_free(&cache);
}

// A ring whose memory is short lets go of what it has not swept, too.
static void test_a_jump_hides_no_memory(void **state)
{
    struct cache cache;
    assert_int_equal(cache_init(&cache, store, 1024, 2048, 1000 * MS), 0);
    fill(&cache, 1, 1025);
    fill(&cache, 3000, 3001);
    uint32_t held = cache.pen.held;
    assert_true(cache.used > 1024 - CACHE_SWEEP - 1);
    cache_relieve(&cache);
    assert_in_range(cache.pen.held, 1, held / 2);
    assert_true(has(&cache, 3000));
    // Nor does it come back in a larger one.
    fill(&cache, 4500, 4501);
    cache_resize(&cache, 1000 * MS);
    fill(&cache, 4501, 5501);
    assert_true(cache_resize(&cache, 1500 * MS));
    assert_int_equal(cache_slots(&cache), 2048);
    assert_int_equal(cache.used, 1001);
    cache_free(&cache);
}

// ---- the store

// A stream's second costs its bytes, and what is written here.
static void test_what_a_packet_takes(void **state)
{
    static const struct {
        size_t rtp; // bytes
        double most;
    } rows[] = {{1184, 1.15}, {184, 1.6}, {80, 2.2}, {1400, 1.15}};
    const size_t head = 36; // MEDIA_KNOWN
    uint8_t packet[2048] = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct cache cache;
        assert_int_equal(cache_init(&cache, store, 1024, 1024, 1000 * MS), 0);
        double most = 0;
        for (uint64_t n = 1; n < 5000; n++) {
            assert_int_equal(cache_put(&cache, n, packet, head + rows[i].rtp), 0);
            double bytes = (double)(store->blocks - store->free) * CACHE_BLOCK +
                           (double)cache_slots(&cache) * sizeof(struct cache_slot);
            if (n > 1024 && bytes > most)
                most = bytes;
        }
        assert_int_equal(cache.used, 1024);
        assert_true(most / (1024.0 * (double)rows[i].rtp) < rows[i].most);
        cache_free(&cache);
    }
}

// Several rings that want more than there is, of all rates, some falling silent: each holds the
// newest of what it was given, all together never more than there is, and nobody nothing.
#define RINGS 5

static void check_share(const struct cache *rings)
{
    uint32_t sum = 0;
    for (unsigned r = 0; r < RINGS; r++)
        sum += rings[r].pen.held;
    assert_int_equal(sum, store->blocks - store->free);
}

static void test_rings_share_the_store(void **state)
{
    static uint8_t there[RINGS][MODEL];
    struct life lives[RINGS];
    memset(there, 0, sizeof(there));
    cache_store_free(store);
    store = cache_store_new(40, true);
    assert_non_null(store);
    srandom(4);
    for (unsigned r = 0; r < RINGS; r++) {
        lives[r] = (struct life){.highest = 0};
        assert_int_equal(cache_init(&lives[r].cache, store, LIFE_MAX, LIFE_MAX, SPAN_MS * MS), 0);
    }
    uint64_t next[RINGS] = {1, 1, 1, 1, 1};
    for (unsigned step = 0; step < 60000; step++) {
        // The first is four times as fast as the others; all but it are silent at times.
        unsigned r = random() % 2 ? 0 : 1 + (unsigned)(random() % (RINGS - 1));
        if (r && step / 5000 % RINGS == r)
            continue;
        next[r] += random() % 50 ? 1 : 1 + (uint64_t)(random() % 9);
        offer(&lives[r], next[r], there[r]);
        if (random() % 20 == 0 && next[r] > 40)
            offer(&lives[r], next[r] - (uint64_t)(random() % 40), there[r]);
        if (step % 100 == 0) {
            struct cache rings[RINGS];
            for (unsigned i = 0; i < RINGS; i++) {
                compare(&lives[i], there[i]);
                rings[i] = lives[i].cache;
            }
            check_share(rings);
        }
        // Who is slow has its share all the same: its own packets only were let go, from there on.
        if (step > 30000)
            assert_true(lives[r].cache.pen.held >= 30 / RINGS - 1);
        assert_true(store->free * 8 >= store->blocks);
    }
    for (unsigned r = 0; r < RINGS; r++)
        cache_free(&lives[r].cache);
}

// A newcomer finds room beside one who has taken what there was, which then gives back.
static void test_a_newcomer_gets_its_share(void **state)
{
    struct cache old, new;
    uint8_t packet[1200] = {0};
    assert_int_equal(cache_init(&old, store, 16384, 16384, 1000 * MS), 0);
    for (uint64_t i = 1; i < 16000; i++)
        assert_int_equal(cache_put(&old, i, packet, sizeof(packet)), 0);
    uint32_t limit = BLOCKS / 4 * 3;
    assert_in_range(old.pen.held, limit, limit + 1);
    assert_int_equal(cache_init(&new, store, 16384, 16384, 1000 * MS), 0);
    for (uint64_t i = 1; i < 1500; i++) {
        assert_int_equal(cache_put(&new, i, packet, sizeof(packet)), 0);
        assert_int_equal(cache_put(&old, 16000 + i, packet, sizeof(packet)), 0);
    }
    assert_non_null(cache_get(&new, 600));
    assert_in_range(old.pen.held, limit / 2 - 1, limit / 2 + 1);
    assert_in_range(new.pen.held, limit / 2 - 2, limit / 2 + 1);
    cache_free(&old);
    cache_free(&new);
}

static void test_no_memory_at_all(void **state)
{
    struct cache rings[3];
    cache_store_free(store);
    store = cache_store_new(2, false);
    assert_non_null(store);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(cache_init(&rings[i], store, 16, 16, 1000 * MS), 0);
    for (uint64_t i = 1; i < 500; i++) {
        assert_int_equal(put(&rings[0], i), 0);
        assert_int_equal(put(&rings[1], i), 0);
        assert_int_equal(put(&rings[2], i), -ENOBUFS);
        assert_true(has(&rings[0], i) && has(&rings[1], i));
        assert_false(has(&rings[2], i));
    }
    cache_clear(&rings[0], 500);
    assert_int_equal(put(&rings[2], 1), 0);
    for (unsigned i = 0; i < 3; i++)
        cache_free(&rings[i]);
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, make_store, free_store)
    const struct CMUnitTest tests[] = {
        WITH_STORE(test_put_and_get),
        WITH_STORE(test_random_against_model),
        WITH_STORE(test_grows_and_shrinks_with_the_rate),
        WITH_STORE(test_what_is_gone_stays_gone),
        WITH_STORE(test_a_life_against_the_model),
        WITH_STORE(test_jumps_cost_little),
        WITH_STORE(test_jumps_grow_nothing),
        WITH_STORE(test_a_jump_hides_no_memory),
        WITH_STORE(test_what_a_packet_takes),
        WITH_STORE(test_rings_share_the_store),
        WITH_STORE(test_a_newcomer_gets_its_share),
        WITH_STORE(test_no_memory_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
