/* The right to begin a viewer's numbers (dataplane/failover_right.c), for spin; run by
 * scripts/model.
 *
 * Two nodes and one track of one viewer. Node n serves a term t if t % 2 == n, and knows of a term
 * when it takes the next of its own or hears of the other's; so both may serve at once. Messages are
 * lost, come as late as they like and more than once: the last question and the last answer each
 * way can be read at any time. A node may lose its memory, and gets the session again from the other,
 * when both stand in the same term and it stands by. The stream may end, and begin again behind the
 * numbers that were used: who serves it knows them, unless the other serves it, too.
 *
 * Proved over all interleavings: never do both have the right, and the numbers begin once. Numbers
 * that have begun may come to the other at any time, and mean the same there. BREAK_... break it.
 */
#ifndef TERMS
#define TERMS 5
#endif
#define UNKNOWN 15
#define SERVES(n) (term[n] % 2 == n)

byte term[2];
bit has[2], numbered[2]; /* neither: foreign */
bit left[2];
byte left_term[2], taken_term[2];
bit begun; /* ghost */

/* The last question and answer of each. */
byte q_term[2], q_left_term[2], q_taken[2];
bit q_given[2];
byte a_term[2], a_left_term[2];
bit a_left[2], a_given[2];

#define LOST(left_t, taken, now) (taken < left_t && left_t < now)

proctype node(byte n)
{
    byte o = 1 - n;
    bit lost;
    do
    /* The other is taken for dead, or the group is taken back; or its word comes. */
    :: atomic { !SERVES(n) && term[n] < TERMS -> term[n] = term[n] + 1 }
    :: atomic { term[n] < term[o] -> term[n] = term[o] }

    /* Begins. */
    :: atomic {
        SERVES(n) && has[n] ->
            assert(!begun);
            begun = 1;
            has[n] = 0;
            numbered[n] = 1
    }
    :: atomic { numbered[o] && !has[n] -> numbered[n] = 1 }

    /* Asks. */
    :: atomic {
        SERVES(n) && !has[n] && !numbered[n] ->
            q_term[n] = term[n];
            q_left_term[n] = left_term[n];
            q_taken[n] = taken_term[n];
            q_given[n] = left[n]
    }

    /* Answers. */
    :: atomic {
        q_term[o] && q_term[o] == term[n] && !SERVES(n) && !numbered[n] ->
            lost = LOST(q_left_term[o], taken_term[n], q_term[o]);
            if
            :: left_term[n] != q_term[o] ->
#ifdef BREAK_AGAIN
                left[n] = left[n];
#else
                left[n] = left[n] && LOST(left_term[n], q_taken[o], q_term[o]);
#endif
                left_term[n] = q_term[o]
            :: else
            fi;
            if
            :: has[n] ->
#ifndef BREAK_GIVE
                has[n] = 0;
#endif
                left[n] = 1
            :: else
            fi;
            a_term[n] = q_term[o];
            a_left_term[n] = q_left_term[o];
            a_left[n] = left[n];
#ifdef BREAK_GIVEN
            a_given[n] = !left[n] && q_given[o];
#else
            a_given[n] = !left[n] && lost && q_given[o];
#endif
            lost = 0
    }

    /* Takes. */
    :: atomic {
#ifdef BREAK_TERM
        a_term[o] && SERVES(n) && !has[n] && !numbered[n] && a_left[o] ->
#elif defined BREAK_TWICE
        a_term[o] == term[n] && SERVES(n) && !has[n] && !numbered[n] && a_left[o] ->
#else
        a_term[o] == term[n] && SERVES(n) && !has[n] && !numbered[n] && a_left[o] &&
        taken_term[n] < a_term[o] ->
#endif
#ifndef BREAK_NOTE
            taken_term[n] = a_term[o];
#endif
            left[n] = 0;
            has[n] = 1;
            assert(!has[o])
    }
    :: atomic {
        a_term[o] == term[n] && SERVES(n) && !has[n] && !numbered[n] &&
        a_given[o] && left[n] && a_left_term[o] == left_term[n] ->
            left[n] = 0;
            has[n] = 1;
            assert(!has[o])
    }

    /* The stream ends. */
    :: atomic {
        term[n] == term[o] && SERVES(n) && (numbered[n] || numbered[o]) ->
            if
            :: numbered[n] -> has[n] = 1; begun = 0
            :: else
            fi;
            numbered[n] = 0;
            numbered[o] = 0
    }
    :: atomic {
        term[n] != term[o] && numbered[n] ->
#ifdef BREAK_APART
            has[n] = SERVES(n);
#endif
            numbered[n] = 0
    }

    /* Dies with its memory, and has the session from the other. */
    :: atomic {
        term[n] == term[o] && !SERVES(n) ->
            has[n] = 0;
            numbered[n] = 0;
            left[n] = 0;
            left_term[n] = 0;
#ifdef BREAK_MEMORY
            taken_term[n] = 0
#else
            taken_term[n] = term[n]
#endif
    }
    :: atomic { term[0] == TERMS && term[1] == TERMS -> break }
    od
}

init
{
    atomic {
        term[0] = 2;
        term[1] = 2;
        has[0] = 1; /* it accepted the session */
        taken_term[1] = 2;
        run node(0);
        run node(1)
    }
}
