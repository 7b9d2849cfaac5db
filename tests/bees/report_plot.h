// Plots of the report as inline SVG: lines and bars over time, distributions, capacity trials.
//
// The SVG holds shapes only and stretches; all text is HTML around it, so that it stays readable at
// any width. Data for the pointer's read-out stands in attributes.
#ifndef HITLESS_BEES_REPORT_PLOT_H
#define HITLESS_BEES_REPORT_PLOT_H

#include "report_text.h"

#define PLOT_SERIES 3

struct plot_series {
    const char *label;
    const double *y; // `count`; NaN: nothing measured
    bool bars;
};

struct plot {
    const char *title, *caption;
    enum unit unit;
    unsigned count;
    const double *x; // seconds, rising
    double x_max;
    double y_min_top; // the axis reaches at least so far
    unsigned series_count;
    struct plot_series series[PLOT_SERIES];
    const struct timeline *notes; // NULL: none
};

void plot_time(FILE *out, const struct plot *plot);
// Nothing for an empty histogram. Values in microseconds.
void plot_hist(FILE *out, const char *title, const char *caption, const struct hist *hist);
void plot_search(FILE *out, const struct search *search, const char *unit);
// A strip from p5 to p99 with marks at p50, to a common scale that ends at `top`, in microseconds.
void plot_strip(FILE *out, const struct hist *hist, double top);

#endif
