/* A stream's packets on two workers (forward() and take_mail() of dataplane/worker.c, keep() of
 * ingest.c), for spin; run by scripts/model.
 *
 * Worker 0 takes a packet buffer, keeps a reference in its ring, gives one to worker 1 through a
 * mailbox if that has room, reads the packet (the fan-out) and lets go. Worker 1 does the same with
 * what it finds. Rings hold one packet, the mailbox one, the pool MBUFS. The mailbox itself is
 * DPDK's ring with one producer and one consumer, whose order ring.pml has.
 *
 * The reference counts are used as DPDK's are: whoever reads 1 holds the only reference and goes on
 * without an atomic operation. Proved over all interleavings: nobody reads a buffer that has gone
 * back to the pool or holds another packet, none goes back twice, and in the end all are back.
 * BREAK_... break it; scripts/model demands that spin finds each.
 */
#define MBUFS 3
#ifndef PACKETS
#define PACKETS 4
#endif
#define NONE MBUFS

byte count[MBUFS] = 1; /* references; 1 in the pool, too, as DPDK has it */
bit out[MBUFS];        /* not in the pool */
byte content[MBUFS];   /* number of the packet */
byte box = NONE;       /* the mailbox */
byte box_content;      /* ghost: what the packet in it must hold */
bit ended;

inline take_reference(m, seen)
{
    seen = count[m];
    if
    :: seen == 1 -> count[m] = 2 /* plain: the only holder */
    :: else ->
#ifdef BREAK_PLAIN
        count[m] = seen + 1
#else
        count[m]++ /* one step: atomic */
#endif
    fi
}

inline let_go(m, seen)
{
    seen = count[m];
    if
    :: seen == 1 -> seen = 0
    :: else -> atomic { count[m]--; seen = count[m] }
    fi;
    if
    :: seen == 0 ->
        atomic {
            assert(out[m]);
            count[m] = 1;
            content[m] = 0;
            out[m] = 0
        }
    :: else
    fi
}

inline read_packet(m, number)
{
    assert(out[m] && content[m] == number)
}

inline allocate(m)
{
    atomic {
        if
        :: !out[0] -> m = 0
        :: out[0] && !out[1] -> m = 1
        :: out[0] && out[1] && !out[2] -> m = 2
        :: else -> m = NONE /* a named drop */
        fi;
        if
        :: m != NONE -> out[m] = 1; assert(count[m] == 1)
        :: else
        fi
    }
}

proctype worker0()
{
    byte number = 1, m = NONE, ring = NONE, seen;
    do
    :: number > PACKETS -> break
    :: else ->
        allocate(m);
        if
        :: m == NONE -> skip
        :: else ->
            content[m] = number;
            if
            :: ring != NONE -> let_go(ring, seen)
            :: else
            fi;
            ring = m;
            take_reference(m, seen);
#ifndef BREAK_GIVE
            take_reference(m, seen);
#endif
            if
            :: box == NONE -> atomic { box_content = number; box = m }
#ifdef BREAK_FULL
            :: else -> skip
#else
            :: else -> let_go(m, seen) /* full: a named drop */
#endif
            fi;
            read_packet(m, number);
            let_go(m, seen);
            m = NONE
        fi;
        number++
    od;
    if
    :: ring != NONE -> let_go(ring, seen)
    :: else
    fi;
    ended = 1
}

proctype worker1()
{
    byte m = NONE, number, ring = NONE, seen;
    do
    :: box != NONE ->
        atomic { m = box; number = box_content; box = NONE }
        if
        :: true ->
            if
            :: ring != NONE -> let_go(ring, seen)
            :: else
            fi;
            ring = m;
#ifndef BREAK_KEEP
            take_reference(m, seen);
#endif
            read_packet(m, number)
        :: true -> skip /* the stream has just been closed here */
        fi;
        let_go(m, seen);
        m = NONE
    :: ended && box == NONE -> break
    od;
    if
    :: ring != NONE -> let_go(ring, seen)
    :: else
    fi
}

init
{
    atomic {
        run worker0();
        run worker1()
    }
    (_nr_pr == 1);
    assert(!out[0] && !out[1] && !out[2])
}
