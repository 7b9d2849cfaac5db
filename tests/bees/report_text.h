// Figures and words of the report: numbers as people read them, escaped text, the headline.
//
// Pure.
#ifndef HITLESS_BEES_REPORT_TEXT_H
#define HITLESS_BEES_REPORT_TEXT_H

#include "report.h"

struct text {
    char at[40];
};

enum unit { UNIT_COUNT, UNIT_BITS, UNIT_FRACTION, UNIT_US };

struct text text_count(double value);       // 12,345
struct text text_bits(double per_second);   // 1.25 Mbit/s
struct text text_fraction(double fraction); // 0.012 %
struct text text_us(double us);             // 950 µs, 12.3 ms, 4.5 s, 3 min 20 s
struct text text_unit(enum unit unit, double value);
struct text text_clock(double seconds); // 40 s, 3:20, 2:05:00

// Writes text with HTML's special characters escaped; control characters become spaces.
void html(FILE *out, const char *text);

enum report_state { REPORT_GOOD, REPORT_WARN, REPORT_BAD };
// The headline's colour, and the headline.
enum report_state report_judge(const struct report *report);

#endif
