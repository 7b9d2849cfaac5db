/* The channel's rings and bell (dataplane/abi/channel.c), for spin; run by scripts/model.
 *
 * Two producers, each with a ring of two slots, one consumer, one bell for both. Indices wrap at 4,
 * and start at 2 so that every run wraps.
 * The four accesses that decide about sleeping are sequentially consistent in C, as every step is
 * here. Proved over all interleavings: what is read was written, whole, in order and once (no loss, no
 * overwrite), and nobody sleeps for ever while a message waits (spin's invalid end states).
 *
 * CRASH lets one side die at any labelled step and start again from the file; the heartbeat timer
 * then stands in for a bell that a dying producer did not ring. The other macros
 * break the algorithm; scripts/model demands that spin finds each of them.
 */
#define PRODUCERS 2
#define SLOTS 2
#define WRAP 4
#ifndef MESSAGES
#define MESSAGES 4 /* of producer 0 */
#endif
#ifndef OTHER
#define OTHER MESSAGES /* of producer 1 */
#endif
#define WANTED(r) ((r) == 0 -> MESSAGES : OTHER)
#define FIFO 2

#define DISTANCE(h, t) (((h) + WRAP - (t)) % WRAP)
#define SLOT(r, i) slot[(r) * SLOTS + (i) % SLOTS]

/* The file and the FIFO: what outlives a crash. */
byte head[PRODUCERS] = 2, tail[PRODUCERS] = 2;
byte slot[PRODUCERS * SLOTS];
bit armed;
byte fifo;

/* Ghosts, for the claims only. */
byte sent[PRODUCERS], taken[PRODUCERS];
byte crashes;

#ifdef CRASH
#define MAY_DIE(restart) if :: crashes < 1 -> crashes++; goto restart :: true fi
#define TIMER (crashes > 0)
#else
#define MAY_DIE(restart) skip
#define TIMER false
#endif

proctype producer(byte r)
{
    byte seen_tail;
    bit bell;
start:
    seen_tail = tail[r];
    bell = 0;
    do
    :: sent[r] == WANTED(r) -> break
    :: else ->
#ifndef BREAK_FULL
        if
        :: DISTANCE(head[r], seen_tail) == SLOTS ->
            DISTANCE(head[r], tail[r]) < SLOTS; /* -EAGAIN until then */
            seen_tail = tail[r]
        :: else
        fi;
#endif
        MAY_DIE(start);
#ifdef BREAK_PUBLISH
        atomic { head[r] = (head[r] + 1) % WRAP; sent[r]++ };
        SLOT(r, head[r] + WRAP - 1) = sent[r];
#else
        SLOT(r, head[r]) = 0; /* half written */
        MAY_DIE(start);
        SLOT(r, head[r]) = sent[r] + 1;
        MAY_DIE(start);
#ifdef BREAK_ORDER
        bell = armed; /* as if the load passed the store */
#endif
        atomic { head[r] = (head[r] + 1) % WRAP; sent[r]++ };
#endif
        MAY_DIE(start);
#ifndef BREAK_ORDER
        bell = armed;
#endif
        if
        :: bell ->
            atomic { bell = armed; armed = 0 }; /* exchange */
            MAY_DIE(start);
            if
            :: bell && fifo < FIFO -> fifo++ /* a full FIFO is readable */
            :: else
            fi
        :: else
        fi;
        bell = 0
    od
}

proctype consumer()
{
    byte r, seen_head, value;
start:
    armed = 0;
    r = 0;
    seen_head = 0;
    value = 0;
    do
    :: taken[0] == MESSAGES && taken[1] == OTHER -> break
    :: else ->
        /* channel_disarm */
        armed = 0;
        fifo = 0;
        MAY_DIE(start);
        /* channel_peek, channel_release */
        r = 0;
        do
        :: r == PRODUCERS -> break
        :: else ->
            seen_head = head[r];
            do
            :: seen_head == tail[r] ->
                seen_head = head[r];
                if
                :: seen_head == tail[r] -> break
                :: else
                fi
            :: else ->
                assert(DISTANCE(seen_head, tail[r]) <= SLOTS);
#ifdef BREAK_RELEASE
                atomic { tail[r] = (tail[r] + 1) % WRAP; taken[r]++ };
                value = SLOT(r, tail[r] + WRAP - 1);
                assert(value == taken[r])
#else
                value = SLOT(r, tail[r]);
                assert(value == taken[r] + 1);
                MAY_DIE(start);
                assert(value == SLOT(r, tail[r])); /* nobody writes what is peeked at */
                value = 0;
                atomic { tail[r] = (tail[r] + 1) % WRAP; taken[r]++ };
                MAY_DIE(start)
#endif
            od;
            seen_head = 0;
            r++
        od;
        r = 0;
        /* channel_arm, then sleep */
#ifdef BREAK_ARM
        if
        :: head[0] != tail[0] || head[1] != tail[1] -> skip
        :: else -> armed = 1; fifo > 0
        fi
#else
        armed = 1;
        MAY_DIE(start);
        if
        :: head[0] != tail[0] -> skip
        :: else ->
            if
            :: head[1] != tail[1] -> skip
            :: else ->
                if
                :: taken[0] == MESSAGES && taken[1] == OTHER -> skip
                :: else ->
#ifdef BREAK_EMPTY
                    fifo = 0;
#endif
                    fifo > 0 || TIMER
                fi
            fi
        fi
#endif
    od;
    assert(sent[0] == MESSAGES && sent[1] == OTHER)
}

init
{
    atomic {
        run producer(0);
        run producer(1);
        run consumer()
    }
}
