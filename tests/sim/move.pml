/* A worker that is moved away from a thread that stalled (worker_enter of dataplane/worker.h,
 * dataplane/roster.c), for spin; run by scripts/model.
 *
 * Thread T runs worker 0. The main core finds it silent, at any instant, be it in the midst of a
 * packet: it revokes worker 0, parks T by a signal, looks whether T holds a queue, copies the table
 * and has thread H go on with worker 1, which takes up the copy. T wakes up, finds that it has
 * nothing to do, and in the end gets worker 1 back. The scheduler takes T's CPU away and gives it
 * back as it likes. A signal for a thread without a CPU comes before anything else that the thread
 * does; one for a thread that runs comes some steps later, which is what the main core waits for.
 *
 * A packet is an index: read from the table, spent there, noted, and sent through the queue, which
 * is half-changed between two steps. Proved over all interleavings: the queue is never in two hands,
 * nor handed over half-changed; no index is sent twice; the copy is what a crash could have left
 * (noted after spent); nobody touches a worker that has been freed. That H, too, goes on with its
 * turns before it is told to give worker 1 back is given: one that does not is revoked itself.
 * Stores and loads of `inside` and `revoked` are sequentially consistent in the code as they are
 * here; BREAK_ORDER is what happens if they were not. BREAK_... break it; scripts/model demands that
 * spin finds each.
 */
#ifndef TURNS
#define TURNS 2
#endif
#define INDEXES 8
#define TRIES 2 /* then the process ends, and is started again */

#ifdef BREAK_RENEW
#define TABLE(w) 0
#else
#define TABLE(w) w
#endif
#define ALWAYS true
#define T_RUNS (on_cpu && !in_handler || done)

bit on_cpu = 1, pending, in_handler, done;
byte park, parked, parkings;
bit wanted_t = 1, wanted_h, running_t, running_h;
bit alive_t, alive_h;
byte newest; /* dp->worker: 0 or 1 */
bit inside[2], revoked[2], freed[2];
byte spent[2], noted[2]; /* of each table */
bit sent[INDEXES];       /* ghost */
byte queue;              /* ghost: hands in it */

inline send_one(w, i, mine, RUNS)
{
    atomic { RUNS -> assert(!freed[w]); i = spent[TABLE(w)] }
    atomic { RUNS -> spent[TABLE(w)] = i + 1 }
    atomic { RUNS -> noted[TABLE(w)] = i + 1 }
#ifdef BREAK_ORDER
    atomic { RUNS -> mine = !revoked[w] }
    atomic { RUNS -> inside[w] = mine }
#else
    atomic { RUNS -> assert(!freed[w]); inside[w] = 1 }
    atomic { RUNS -> mine = !revoked[w] }
#endif
    if
    :: mine ->
        atomic { RUNS -> queue++; assert(queue == 1) }
        atomic { RUNS -> assert(!sent[i]); sent[i] = 1; queue-- }
    :: else /* thrown away */
    fi;
    atomic { RUNS -> assert(!freed[w]); inside[w] = 0; mine = 0; i = 0 }
}

inline take_orders(wanted, running, has, w, RUNS)
{
    atomic {
        RUNS -> next = wanted;
        if
        :: next && !has -> w = newest
        :: else
        fi
    }
    atomic { RUNS -> has = next; running = next; next = 0 }
}

proctype thread_t()
{
    byte w, i, turns;
    bit has, next, mine;
    do
    :: take_orders(wanted_t, running_t, has, w, T_RUNS);
        if
        :: has && turns < TURNS + w -> send_one(w, i, mine, T_RUNS); turns++
        :: !(has && turns < TURNS + w) && done -> break
        :: else
        fi;
        atomic { T_RUNS -> alive_t = 1 }
    od
}

proctype thread_h()
{
    byte w, i, turns;
    bit has, next, mine;
    do
    :: take_orders(wanted_h, running_h, has, w, ALWAYS);
        if
        :: has && turns < TURNS -> send_one(w, i, mine, ALWAYS); turns++
        :: !(has && turns < TURNS) && done -> break
        :: else
        fi;
        alive_h = 1
    od
}

/* T's CPU, and its signal handler: on_park. */
proctype scheduler()
{
    byte seen;
    do
    :: atomic { on_cpu -> on_cpu = 0 }
    :: atomic {
        !on_cpu -> on_cpu = 1;
        if
        :: pending && !in_handler -> pending = 0; in_handler = 1
        :: else
        fi
    }
    :: atomic { on_cpu && pending && !in_handler -> pending = 0; in_handler = 1 }
    :: atomic {
        on_cpu && in_handler && !seen ->
            seen = park;
            if
            :: !seen -> in_handler = 0
            :: else
            fi
    }
    :: atomic { on_cpu && in_handler && seen -> parked = seen; seen = 0 }
    :: done -> break
    od
}

/* Several whole turns: in the code, ten seconds of them. */
inline behaves(alive)
{
    alive = 0;
    (alive);
    alive = 0;
    (alive)
}

proctype main_core()
{
    byte tries;
#ifndef BREAK_REVOKE
    revoked[0] = 1;
#endif
    do
    :: true ->
#ifndef BREAK_PARK
        parkings++;
        park = parkings;
        pending = 1;
#ifdef BREAK_NUMBER
        (parked || !on_cpu);
#else
        (parked == parkings || !on_cpu);
#endif
#endif
        if
#ifndef BREAK_INSIDE
        :: inside[0] ->
            park = 0; /* to leave it, if it can */
            tries++;
            if
            :: tries == TRIES -> goto ended
            :: else
            fi
        :: !inside[0] -> break
#else
        :: true -> break
#endif
        fi
    od;
    assert(queue == 0);
#ifndef BREAK_RENEW
    spent[1] = spent[0];
    noted[1] = noted[0];
    assert(noted[1] <= spent[1]);
#endif
    newest = 1;
    wanted_t = 0;
    wanted_h = 1;
    park = 0;
    behaves(alive_h);
#ifndef BREAK_OUT
    (!running_t);
    behaves(alive_t);
#endif
    wanted_h = 0;
#ifndef BREAK_BACK
    (!running_h);
#endif
    freed[0] = 1;
    wanted_t = 1;
    (running_t);
ended:
    done = 1
}

init
{
    atomic {
        run thread_t();
        run thread_h();
        run scheduler();
        run main_core()
    }
}
