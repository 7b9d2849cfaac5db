#include "viewer.h"
#include <string.h>

#define KEY_WAIT_NS UINT64_C(200000000)    // between requests while a key frame is needed
#define FRAME_WAIT_NS UINT64_C(3000000000) // without a frame that can be decoded
#define FREEZE_NS UINT64_C(150000000)      // beyond the usual interval; or three intervals

void viewer_init(struct viewer *viewer, uint64_t first_ns, uint64_t interval_ns, uint64_t rtt_ns,
                 uint64_t ask_delay_ns)
{
    memset(viewer, 0, sizeof(*viewer));
    viewer->first_ns = first_ns;
    viewer->interval_ns = interval_ns;
    viewer->rtt_ns = rtt_ns;
    viewer->ask_delay_ns = ask_delay_ns;
    viewer->key_needed = true;
    viewer->last_ns = first_ns;
}

void viewer_free(struct viewer *viewer)
{
    nack_free(&viewer->nack);
}

static struct viewer_frame *frame_at(struct viewer *viewer, uint32_t number)
{
    return &viewer->frames[number % VIEWER_FRAMES];
}

// The list keeps up with the sequence numbers.
static void note_index(struct viewer *viewer, const struct viewer_packet *packet, uint64_t now_ns)
{
    struct nack_entry entry;
    unsigned dropped;
    viewer->received += !packet->again;
    if (viewer->highest == 0) {
        viewer->highest = packet->index;
        viewer->expected++;
    } else if (packet->index <= viewer->highest) {
        nack_remove(&viewer->nack, packet->index, &entry);
    } else {
        unsigned missing = (unsigned)(packet->index - viewer->highest - 1);
        viewer->expected += missing + 1;
        if (missing && !nack_add(&viewer->nack, viewer->highest + 1, missing,
                                 now_ns + viewer->ask_delay_ns, &dropped))
            viewer->key_needed = true;
        viewer->highest = packet->index;
    }
}

void viewer_receive(struct viewer *viewer, const struct viewer_packet *packet, uint64_t now_ns)
{
    struct viewer_frame *frame = frame_at(viewer, packet->frame);
    note_index(viewer, packet, now_ns);
    if (viewer->started && packet->frame <= viewer->last)
        return; // too late
    if (frame->parts == 0 || frame->number != packet->frame)
        *frame = (struct viewer_frame){.number = packet->frame,
                                       .refers_to = packet->refers_to,
                                       .parts = packet->parts,
                                       .key = packet->key};
    frame->got |= 1u << packet->part;
    if (packet->index > frame->last_index)
        frame->last_index = packet->index;
}

static bool decodable(struct viewer *viewer, const struct viewer_frame *frame, uint32_t number)
{
    if (frame->parts == 0 || frame->number != number || frame->got != (1u << frame->parts) - 1)
        return false;
    const struct viewer_frame *other = frame_at(viewer, frame->refers_to);
    return frame->key || (other->number == frame->refers_to && other->decoded);
}

static void show(struct viewer *viewer, struct viewer_frame *frame, uint64_t now_ns)
{
    struct nack_entry entry;
    uint64_t due_ns = viewer->first_ns + frame->number * viewer->interval_ns;
    if (viewer->started) {
        uint64_t gap = now_ns - viewer->last_ns, usual = viewer->interval_ns;
        viewer->still += frame->number - viewer->last - 1;
        viewer->still += now_ns >= due_ns + viewer->interval_ns;
        if (gap > 3 * usual && gap > usual + FREEZE_NS) {
            viewer->freezes++;
            viewer->freeze_ns += gap;
        }
    }
    viewer->shown++;
    viewer->started = frame->decoded = true;
    viewer->key_needed = false;
    viewer->last = frame->number;
    viewer->last_ns = now_ns;
    // What belongs to it or to frames before it is not asked for any more.
    while (viewer->nack.count && viewer->nack.entry[0].seq <= frame->last_index)
        nack_remove(&viewer->nack, viewer->nack.entry[0].seq, &entry);
}

void viewer_turn(struct viewer *viewer, uint64_t now_ns)
{
    uint32_t number = viewer->started ? viewer->last + 1 : 0;
    uint32_t oldest = number;
    while (viewer->first_ns + number * viewer->interval_ns <= now_ns &&
           number - oldest < VIEWER_FRAMES) {
        struct viewer_frame *frame = frame_at(viewer, number);
        if (decodable(viewer, frame, number)) {
            show(viewer, frame, now_ns);
            oldest = number + 1;
        }
        number++;
    }
}

unsigned viewer_ask(struct viewer *viewer, uint64_t now_ns, uint16_t *seqs)
{
    unsigned given_up = 0;
    if (now_ns < nack_next(&viewer->nack))
        return 0;
    unsigned count =
        nack_due(&viewer->nack, true, viewer->rtt_ns, now_ns, seqs, VIEWER_ASK, &given_up);
    viewer->asked += count;
    viewer->given_up += given_up;
    return count;
}

bool viewer_wants_key(struct viewer *viewer, uint64_t now_ns)
{
    bool stuck = now_ns > viewer->last_ns + FRAME_WAIT_NS;
    if ((!viewer->key_needed && !stuck) || now_ns - viewer->key_asked_ns < KEY_WAIT_NS)
        return false;
    viewer->key_asked_ns = now_ns;
    return true;
}

uint8_t viewer_report(struct viewer *viewer)
{
    uint32_t expected = viewer->expected, received = viewer->received;
    viewer->expected = viewer->received = 0;
    return expected <= received ? 0 : (uint8_t)((expected - received) * 256 / (expected + 1));
}

void viewer_restart_figures(struct viewer *viewer)
{
    viewer->shown = viewer->still = viewer->freezes = 0;
    viewer->freeze_ns = viewer->asked = viewer->given_up = 0;
}

void viewer_end(struct viewer *viewer, uint64_t now_ns)
{
    uint64_t due = (now_ns - viewer->first_ns) / viewer->interval_ns;
    if (due > viewer->last + 1)
        viewer->still += due - viewer->last - 1;
    if (now_ns - viewer->last_ns > viewer->interval_ns + FREEZE_NS) {
        viewer->freezes++;
        viewer->freeze_ns += now_ns - viewer->last_ns;
    }
}
