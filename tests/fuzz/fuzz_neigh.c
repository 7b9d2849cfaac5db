// Fuzz target: a frame of any kind where no kernel stands in front of us. The first byte picks the
// VLAN and the room behind the frame; an answer must fit, be at most 8 bytes longer than its
// question (see neigh.h), and carry our link address as its source, and the table stays sound.
#include "../../dataplane/neigh.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 2};

static void check(int ok)
{
    if (!ok)
        abort();
}

static void check_table(const struct neigh_table *table)
{
    for (size_t i = 0; i < NEIGH_ENTRIES; i++) {
        const struct neigh_entry *entry = &table->entry[i];
        if (entry->state != NEIGH_KNOWN)
            continue;
        check(!(entry->mac[0] & 1) && memcmp(entry->mac, our_mac, 6) != 0);
        check(entry->addr.family == 4 || entry->addr.family == 6);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct abi_config config = {
        .prefix4 = 24,
        .prefix6 = 64,
        .media4 = {.ip = {10, 77, 0, 2}, .family = 4},
        .media6 = {.ip = {0xfd, 0x77, [15] = 2}, .family = 6},
        .gateway4 = {.ip = {10, 77, 0, 1}, .family = 4},
        .gateway6 = {.ip = {0xfd, 0x77, [15] = 1}, .family = 6},
    };
    if (size < 1)
        return 0;
    uint8_t how = data[0];
    data++;
    size--;
    config.vlan = how & 1 ? 5 : 0;
    size_t room = size + (how & 2 ? 64 : 0);

    struct neigh_self self;
    struct neigh_table table = {0};
    uint8_t question[NEIGH_FRAME_MAX];
    neigh_self_init(&self, &config, our_mac);
    while (neigh_question(&self, &table, 1, question, sizeof(question)) >
           0) // asks for the gateways
        ;
    uint8_t *frame = malloc(room ? room : 1);
    if (frame == NULL)
        return 0;
    memcpy(frame, data, size);
    size_t length = size;
    if (neigh_input(&self, &table, 2, frame, &length, room)) {
        check(length <= room && length <= size + 8);
        check(memcmp(frame + 6, our_mac, 6) == 0);
    } else {
        check(length == size);
    }
    check_table(&table);
    free(frame);
    return 0;
}
