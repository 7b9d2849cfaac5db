// Searches the largest load that a server carries: what to try next, and what came out.
//
// Pure: the driver runs the trials. RFC 2544 26.1 (throughput by bisection) with the habits of
// draft-ietf-bmwg-mlrsearch: the bounds are found first by doubling with short trials, then
// narrowed to a relative width; the final bounds need trials of full length, and one that fails
// close to a load that passed is repeated, so that a single hiccup does not decide.
// A load is a whole number: sessions, or packets or bits per second.
#ifndef HITLESS_BEES_SEARCH_H
#define HITLESS_BEES_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#define SEARCH_TRIALS 64 // a search ends after so many at the latest

enum search_verdict {
    SEARCH_PASS,
    SEARCH_FAIL,   // loss or joins out of bounds
    SEARCH_LIMITED // the load generator did not get that load out (or in): says nothing of the
                   // server
};

// Why a search ended.
enum search_reason {
    SEARCH_RUNNING,
    SEARCH_FOUND,           // the bounds are as close as was asked for
    SEARCH_MAXIMUM_PASSES,  // the largest load that may be tried passes
    SEARCH_MINIMUM_FAILS,   // the smallest load that may be tried fails
    SEARCH_GENERATOR_LIMIT, // above `best`, the generator is the limit
    SEARCH_TOO_MANY_TRIALS, // verdicts that contradict each other, or bounds too far apart
    SEARCH_STOPPED          // by search_stop
};

// Zero means the default given.
struct search_config {
    uint64_t min, max;   // loads that may be tried, 1 and 1e9
    uint64_t start;      // first load; min
    double width;        // smallest failing / best passing - 1 at the end; 0.05
    double short_s;      // a trial while doubling; 5 s
    double long_s;       // a trial that decides; 20 s
    unsigned fails;      // trials near the bound that must fail before a load is failed; 2
    unsigned max_trials; // SEARCH_TRIALS
};

struct search_trial {
    uint64_t load;
    double duration_s;
    bool full;        // of the length that decides
    unsigned attempt; // 1: the first of this load and length
    enum search_verdict verdict;
};

struct search_result {
    uint64_t best;    // largest load that passed a full trial; 0: none
    uint64_t failing; // smallest that failed; 0: none
    uint64_t limited; // smallest at which the generator was the limit; 0: none
    enum search_reason reason;
    unsigned trials;
};

struct search {
    struct search_config config;
    struct search_result result;
    uint64_t low;      // largest load that passed, full trial or short; 0: none
    uint64_t high;     // smallest that did not; 0: none
    bool high_limited; // that was the generator's fault
    bool waiting;      // the last trial was given out and not yet reported
    struct search_trial trial[SEARCH_TRIALS]; // result.trials of them, and the one given out
};

// 0, or -EINVAL if the configuration contradicts itself.
int search_init(struct search *search, const struct search_config *config);
// The trial to run now. False when the search is over: see search->result.
bool search_next(struct search *search, struct search_trial *trial);
// What the last trial from search_next() gave.
void search_report(struct search *search, enum search_verdict verdict);
// Ends the search now; what is known stays known.
void search_stop(struct search *search);

const char *search_verdict_name(enum search_verdict verdict); // "pass"
const char *search_reason_text(enum search_reason reason);    // half a sentence

#endif
