// The address map against a naive list: puts, replacements, removals that close holes, a full
// table.
#include "../../dataplane/map.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#define KEYS 400

static struct abi_addr key(unsigned n)
{
    return (struct abi_addr){
        .ip = {10, 0, (uint8_t)(n >> 8), (uint8_t)n}, .port = (uint16_t)(n * 7), .family = 4};
}

static void test_random_against_model(void **state)
{
    static uint32_t model[KEYS];
    struct map map;
    assert_int_equal(map_init(&map, KEYS, 12345), 0);
    for (unsigned i = 0; i < KEYS; i++)
        model[i] = MAP_NONE;
    srandom(5);
    for (unsigned step = 0; step < 200000; step++) {
        unsigned n = (unsigned)random() % KEYS;
        struct abi_addr k = key(n);
        uint32_t value = (uint32_t)random() % 1000;
        if (random() % 2) {
            assert_int_equal(map_put(&map, &k, value), 0);
            model[n] = value;
        } else {
            // Another's value does not remove the key.
            uint32_t given = random() % 4 ? model[n] : value + 1;
            map_remove(&map, &k, given);
            if (given == model[n])
                model[n] = MAP_NONE;
        }
        unsigned probe = (unsigned)random() % KEYS;
        struct abi_addr p = key(probe);
        assert_int_equal(map_get(&map, &p), model[probe]);
    }
    unsigned used = 0;
    for (unsigned i = 0; i < KEYS; i++)
        used += model[i] != MAP_NONE;
    assert_int_equal(map.used, used);
    map_free(&map);
}

static void test_a_full_table_refuses(void **state)
{
    struct map map;
    assert_int_equal(map_init(&map, 8, 1), 0);
    unsigned n = 0;
    struct abi_addr k;
    do
        k = key(n++);
    while (map_put(&map, &k, n) == 0);
    assert_in_range(n, 8, 16);
    assert_int_equal(map_get(&map, &k), MAP_NONE);
    k = key(0);
    assert_int_equal(map_put(&map, &k, 77), 0); // a key that is there still changes
    assert_int_equal(map_get(&map, &k), 77);
    map_free(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_against_model),
        cmocka_unit_test(test_a_full_table_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
