#include "report_plot.h"
#include <math.h>

#define W 1000.0 // the SVG's own units; it is stretched to its box
#define H 300.0
#define BINS 48

// The next 1, 2 or 5 times a power of ten that is at least `value`.
static double nice(double value)
{
    double base = pow(10, floor(log10(value)));
    double lead = value / base;
    return (lead <= 1.0001 ? 1 : lead <= 2.0001 ? 2 : lead <= 5.0001 ? 5 : 10) * base;
}

// Steps that suit a clock.
static double time_step(double length)
{
    static const double steps[] = {1,   2,   5,   10,   15,   30,   60,    120,
                                   300, 600, 900, 1800, 3600, 7200, 14400, 43200};
    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (length / steps[i] <= 5)
            return steps[i];
    return nice(length / 5);
}

static double top_of(const struct plot *plot)
{
    double top = plot->y_min_top;
    for (unsigned s = 0; s < plot->series_count; s++)
        for (unsigned i = 0; i < plot->count; i++)
            if (plot->series[s].y[i] > top)
                top = plot->series[s].y[i];
    return top > 0 ? top : 1;
}

// The vertical step: three or four lines. Counts have no halves.
static double y_step(double top, enum unit unit)
{
    double step = nice(top / 4);
    return unit == UNIT_COUNT && step < 1 ? 1 : step;
}

static void head(FILE *out, const char *title, const char *caption)
{
    fputs("<figure><figcaption><b>", out);
    html(out, title);
    fputs("</b><span>", out);
    html(out, caption);
    fputs("</span></figcaption>", out);
}

static void y_axis(FILE *out, double axis, double step, enum unit unit)
{
    fputs("<div class=y>", out);
    for (unsigned i = 0; i * step <= axis * 1.0001; i++) {
        double y = i * step;
        fprintf(out, "<i style='bottom:%.2f%%'>%s</i>", y / axis * 100,
                i == 0 ? "0" : text_unit(unit, y).at);
    }
    fputs("</div>", out);
}

static void grid(FILE *out, double axis, double step)
{
    for (unsigned i = 0; i * step <= axis * 1.0001; i++)
        fprintf(out, "<path class=%s d='M0 %.1fH%g'/>", i == 0 ? "base" : "grid",
                H - i * step / axis * H, W);
}

// A value with nothing on either side has no line to be on.
static bool is_alone(const double *y, unsigned i, unsigned count)
{
    return !isnan(y[i]) && (i == 0 || isnan(y[i - 1])) && (i + 1 == count || isnan(y[i + 1]));
}

static void draw_line(FILE *out, const struct plot *plot, unsigned s, double axis)
{
    const double *y = plot->series[s].y;
    fprintf(out, "<path class='line s%u' d='", s);
    for (unsigned i = 0; i < plot->count; i++)
        if (!isnan(y[i]))
            fprintf(out, "%c%.1f %.1f", i == 0 || isnan(y[i - 1]) ? 'M' : 'L',
                    plot->x[i] / plot->x_max * W, H - y[i] / axis * H);
    fprintf(out, "'/><path class='dot s%u' d='", s);
    for (unsigned i = 0; i < plot->count; i++)
        if (is_alone(y, i, plot->count))
            fprintf(out, "M%.1f %.1fh.1", plot->x[i] / plot->x_max * W, H - y[i] / axis * H);
    fputs("'/>", out);
}

static void draw_bars(FILE *out, const struct plot *plot, unsigned s, double axis)
{
    const double *y = plot->series[s].y;
    double before = 0;
    fprintf(out, "<path class='bars s%u' d='", s);
    for (unsigned i = 0; i < plot->count; i++) {
        double left = before / plot->x_max * W, right = plot->x[i] / plot->x_max * W;
        double gap = (right - left) * 0.12;
        before = plot->x[i];
        if (y[i] > 0)
            fprintf(out, "M%.1f %gV%.1fH%.1fV%g", left + gap, H, H - y[i] / axis * H, right - gap,
                    H);
    }
    fputs("'/>", out);
}

static void write_numbers(FILE *out, const double *value, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (i > 0)
            fputc(',', out);
        if (isnan(value[i]))
            continue;
        fprintf(out, "%.5g", value[i]);
    }
}

static void legend(FILE *out, const struct plot *plot)
{
    fputs("<div class=legend>", out);
    for (unsigned s = 0; s < plot->series_count; s++) {
        fprintf(out, "<span><i class=k%u></i>", s);
        html(out, plot->series[s].label);
        fputs(" <b></b></span>", out);
    }
    fputs("<span class=at></span></div>", out);
}

static void x_axis(FILE *out, double length)
{
    double step = time_step(length);
    fputs("<div class=x>", out);
    for (unsigned i = 0; i * step <= length * 0.97; i++)
        fprintf(out, "<i style='left:%.2f%%'>%s</i>", i * step / length * 100,
                i == 0 ? "0" : text_clock(i * step).at);
    fputs("</div>", out);
}

static void draw_notes(FILE *out, const struct plot *plot)
{
    for (unsigned i = 0; plot->notes && i < plot->notes->notes; i++) {
        const struct timeline_note *note = &plot->notes->note[i];
        if (note->at_s < 0 || note->at_s > plot->x_max)
            continue;
        fprintf(out, "<path class=note d='M%.1f 0V%g'><title>", note->at_s / plot->x_max * W, H);
        html(out, note->text);
        fputs("</title></path>", out);
    }
}

void plot_time(FILE *out, const struct plot *plot)
{
    double step = y_step(top_of(plot), plot->unit);
    double axis = ceil(top_of(plot) / step - 1e-9) * step;
    if (plot->count == 0 || !(plot->x_max > 0))
        return;
    head(out, plot->title, plot->caption);
    legend(out, plot);
    fputs("<div class=plot>", out);
    y_axis(out, axis, step, plot->unit);
    fprintf(out, "<div class=box data-unit=%d data-x='", (int)plot->unit);
    write_numbers(out, plot->x, plot->count);
    fputc('\'', out);
    for (unsigned s = 0; s < plot->series_count; s++) {
        fprintf(out, " data-y%u='", s);
        write_numbers(out, plot->series[s].y, plot->count);
        fputc('\'', out);
    }
    fprintf(out, "><svg viewBox='0 0 %g %g' preserveAspectRatio=none role=img aria-label='", W, H);
    html(out, plot->title);
    fputs("'>", out);
    grid(out, axis, step);
    for (unsigned s = 0; s < plot->series_count; s++)
        (plot->series[s].bars ? draw_bars : draw_line)(out, plot, s, axis);
    draw_notes(out, plot);
    fputs("</svg><hr></div>", out);
    x_axis(out, plot->x_max);
    fputs("</div></figure>\n", out);
}

// Shares of the values in BINS bins that are even on a logarithmic scale; a bucket is spread over
// the bins that it touches.
static double fill_bins(const struct hist *hist, double low, double ratio, double bin[BINS])
{
    struct hist_bucket bucket;
    double top = 0;
    for (unsigned at = 0; hist_next(hist, &at, &bucket);) {
        double from = fmax((double)bucket.from, 1), to = fmax((double)bucket.to, from + 1);
        double a = log(from / low) / ratio, b = log(fmin(to, from * 1.02 + 1) / low) / ratio;
        for (int i = (int)floor(a); i <= (int)floor(b); i++) {
            double share = (fmin(b, i + 1) - fmax(a, i)) / (b - a);
            bin[i < 0 ? 0 : i >= BINS ? BINS - 1 : i] += share * (double)bucket.count;
        }
    }
    for (unsigned i = 0; i < BINS; i++)
        top = fmax(top, bin[i]);
    return top;
}

// Ticks at 1, 2, 5 times powers of ten, or the powers alone where those would be too many.
static void log_axis(FILE *out, double low, double high)
{
    static const double lead[] = {1, 2, 5};
    bool all = log10(high / low) < 2;
    double last = -1;
    fputs("<div class=x>", out);
    for (int power = (int)floor(log10(low)); power <= (int)floor(log10(high)); power++) {
        double base = pow(10, power);
        for (unsigned i = 0; i < (all ? 3u : 1u); i++) {
            double at = log(base * lead[i] / low) / log(high / low);
            if (at < 0 || at > 0.97 || at - last < 0.1)
                continue;
            fprintf(out, "<i style='left:%.2f%%'>%s</i>", at * 100, text_us(base * lead[i]).at);
            last = at;
        }
    }
    fputs("</div>", out);
}

static void marks(FILE *out, const struct hist *hist, double low, double high)
{
    static const double percent[] = {50, 99};
    for (unsigned i = 0; i < 2; i++) {
        double value = fmax((double)hist_percentile(hist, percent[i]), 1);
        double at = log(value / low) / log(high / low);
        fprintf(out, "<path class=mark d='M%.1f 0V%g'><title>p%g %s</title></path>", at * W, H,
                percent[i], text_us(value).at);
    }
}

void plot_hist(FILE *out, const char *title, const char *caption, const struct hist *hist)
{
    static const double shown[] = {50, 90, 99, 100};
    static const char *const names[] = {"half within", "90 % within", "99 % within", "longest"};
    double bin[BINS] = {0};
    if (hist->count == 0)
        return;
    double low = fmax((double)hist->min, 1) / 1.05, high = fmax((double)hist->max, 1) * 1.05;
    if (high / low < 4) { // a narrow one would show the buckets, not the values
        double middle = sqrt(high * low);
        low = fmax(middle / 2, 0.5);
        high = low * 4;
    }
    double ratio = log(high / low) / BINS, top = fill_bins(hist, low, ratio, bin);
    head(out, title, caption);
    fputs("<div class=legend>", out);
    for (unsigned i = 0; i < 4; i++)
        fprintf(out, "<span>%s <b>%s</b></span>", names[i],
                text_us((double)hist_percentile(hist, shown[i])).at);
    fprintf(out,
            "</div><div class='plot hist'><div class=box><svg viewBox='0 0 %g %g' "
            "preserveAspectRatio=none role=img aria-label='",
            W, H);
    html(out, title);
    fputs("'>", out);
    for (unsigned i = 0; i < BINS; i++) {
        double height = bin[i] / top * H * 0.96;
        if (bin[i] > 0) // what is there is seen
            fprintf(out,
                    "<path class='bars s0' d='M%.1f %gv-%.1fh%.1fv%.1f'><title>%s to %s: "
                    "%s</title></path>",
                    i * W / BINS + 1.5, H, fmax(height, 3), W / BINS - 3, fmax(height, 3),
                    text_us(low * exp(ratio * i)).at, text_us(low * exp(ratio * (i + 1))).at,
                    text_count(bin[i] + 0.5 > 1 ? floor(bin[i] + 0.5) : 1).at);
    }
    marks(out, hist, low, high);
    fprintf(out, "<path class=base d='M0 %gH%g'/></svg></div>", H, W);
    log_axis(out, low, high);
    fputs("</div></figure>\n", out);
}

static void draw_trial(FILE *out, const struct search *search, unsigned i, double axis,
                       const char *unit)
{
    static const char *const class[] = {"good", "bad", "warn"};
    const struct search_trial *trial = &search->trial[i];
    double slot = W / search->result.trials, height = (double)trial->load / axis * H;
    fprintf(out, "<path class='trial %s%s' d='M%.1f %gv-%.1fh%.1fv%.1f'><title>trial %u: %s ",
            class[trial->verdict], trial -> full ? "" : " short", i *slot + slot * 0.12, H, height,
            slot * 0.76, height, i + 1, text_count((double)trial->load).at);
    html(out, unit);
    fprintf(out, " for %s: %s</title></path>", text_clock(trial->duration_s).at,
            search_verdict_name(trial->verdict));
}

void plot_search(FILE *out, const struct search *search, const char *unit)
{
    const struct search_result *result = &search->result;
    double top = 1;
    for (unsigned i = 0; i < result->trials; i++)
        top = fmax(top, (double)search->trial[i].load);
    double step = y_step(top, UNIT_COUNT), axis = ceil(top / step - 1e-9) * step;
    if (result->trials == 0)
        return;
    head(out, "Trials, in the order in which they were run",
         "Loads are doubled until one fails, then the gap is halved. Pale bars are short trials "
         "that only "
         "show the way; the line is the largest load that passed in full.");
    fputs("<div class=legend><span><i class=good></i>passed</span><span><i "
          "class=bad></i>failed</span>"
          "<span><i class=warn></i>the load tester was the limit</span></div><div class=plot>",
          out);
    y_axis(out, axis, step, UNIT_COUNT);
    fprintf(out,
            "<div class=box><svg viewBox='0 0 %g %g' preserveAspectRatio=none role=img "
            "aria-label='trials'>",
            W, H);
    grid(out, axis, step);
    for (unsigned i = 0; i < result->trials; i++)
        draw_trial(out, search, i, axis, unit);
    if (result->best > 0)
        fprintf(out, "<path class=mark d='M0 %.1fH%g'/>", H - (double)result->best / axis * H, W);
    fprintf(out,
            "</svg></div><div class=x><i style='left:0'>first</i><i style='left:100%%'>trial "
            "%u</i></div></div></figure>\n",
            result->trials);
}

void plot_strip(FILE *out, const struct hist *hist, double top)
{
    double p5 = (double)hist_percentile(hist, 5) / top * 100;
    double p50 = (double)hist_percentile(hist, 50) / top * 100;
    double p99 = (double)hist_percentile(hist, 99) / top * 100;
    fprintf(out,
            "<div class=strip><i style='left:%.2f%%;width:%.2f%%'></i><b "
            "style='left:%.2f%%'></b></div>",
            fmin(p5, 100), fmax(fmin(p99, 100) - fmin(p5, 100), 0.5), fmin(p50, 99.5));
}
