// Tables for people. Nothing here knows a command: what to show, and in which unit, comes with the
// answer.
#include "table.h"
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MIN 24 // characters; words in less are hard to read

// ---- cells

// Three figures and a prefix: 12345 -> "12.3k".
static void scaled(double value, const char *unit, char cell[TABLE_CELL])
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P", "E"};
    size_t i = 0;
    while (value >= 999.5 && i + 1 < sizeof(prefixes) / sizeof(prefixes[0])) {
        value /= 1000;
        i++;
    }
    int decimals = i == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(cell, TABLE_CELL, "%.*f%s%s", decimals, value, prefixes[i], unit);
}

static void duration(long long s, char cell[TABLE_CELL])
{
    if (s < 60)
        snprintf(cell, TABLE_CELL, "%llds", s);
    else if (s < 3600)
        snprintf(cell, TABLE_CELL, "%lldm%02llds", s / 60, s % 60);
    else if (s < 86400)
        snprintf(cell, TABLE_CELL, "%lldh%02lldm", s / 3600, s / 60 % 60);
    else
        snprintf(cell, TABLE_CELL, "%lldd%02lldh", s / 86400, s / 3600 % 24);
}

static void milliseconds(double ms, char cell[TABLE_CELL])
{
    if (ms < 10)
        snprintf(cell, TABLE_CELL, "%.2fms", ms);
    else if (ms < 10000)
        snprintf(cell, TABLE_CELL, "%.0fms", ms);
    else
        duration((long long)(ms / 1000), cell);
}

static void plain(const json_t *value, char cell[TABLE_CELL])
{
    if (json_is_string(value))
        snprintf(cell, TABLE_CELL, "%s",
                 json_string_length(value) ? json_string_value(value) : "-");
    else if (json_is_integer(value))
        snprintf(cell, TABLE_CELL, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(cell, TABLE_CELL, "%.1f", json_real_value(value));
    else
        snprintf(cell, TABLE_CELL, "%s", json_is_true(value) ? "yes" : "no");
    for (char *c = cell; *c != 0; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
}

static void unknown_when_zero(double value, void (*format)(double, char[TABLE_CELL]),
                              char cell[TABLE_CELL])
{
    if (value == 0)
        snprintf(cell, TABLE_CELL, "-");
    else
        format(value, cell);
}

void table_format(const json_t *value, const char *unit, char cell[TABLE_CELL])
{
    double number = json_number_value(value);
    if (value == NULL || json_is_null(value) || json_is_object(value) || json_is_array(value))
        snprintf(cell, TABLE_CELL, "-");
    else if (!json_is_number(value))
        plain(value, cell);
    else if (strcmp(unit, "rate") == 0)
        scaled(number, "/s", cell);
    else if (strcmp(unit, "bitrate") == 0)
        scaled(number, "bit/s", cell);
    else if (strcmp(unit, "us") == 0)
        unknown_when_zero(number / 1000, milliseconds, cell);
    else if (strcmp(unit, "ms") == 0)
        milliseconds(number, cell);
    else if (strcmp(unit, "s") == 0)
        duration(json_integer_value(value), cell);
    else if (strcmp(unit, "percent") == 0)
        snprintf(cell, TABLE_CELL, "%.1f%%", number);
    else if (strcmp(unit, "permille") == 0)
        snprintf(cell, TABLE_CELL, "%.1f%%", number / 10);
    else if ((strcmp(unit, "count") == 0 || strcmp(unit, "nonzero") == 0) && number >= 1e6)
        scaled(number, "", cell);
    else
        plain(value, cell);
}

// ---- columns

static const char *text(const json_t *column, const char *key)
{
    const char *value = json_string_value(json_object_get(column, key));
    return value != NULL ? value : "";
}

// "dataplane.state" is the field "state" of the object "dataplane".
static const json_t *field_of(const json_t *row, const char *path)
{
    char key[64];
    const char *dot;
    while ((dot = strchr(path, '.')) != NULL) {
        snprintf(key, sizeof(key), "%.*s", (int)(dot - path), path);
        row = json_object_get(row, key);
        path = dot + 1;
    }
    return json_object_get(row, path);
}

static void cell_of(const json_t *row, const json_t *column, char cell[TABLE_CELL])
{
    table_format(field_of(row, text(column, "field")), text(column, "unit"), cell);
}

// Characters, not bytes: UTF-8's continuation bytes take no room.
static int width_of(const char *cell)
{
    int width = 0;
    for (; *cell != 0; cell++)
        width += ((unsigned char)*cell & 0xc0) != 0x80;
    return width;
}

static void put(FILE *out, const char *cell, int width, bool right, bool last)
{
    int pad = width - width_of(cell);
    if (right)
        fprintf(out, "%*s%s", pad > 0 ? pad : 0, "", cell);
    else
        fprintf(out, "%s%*s", cell, last || pad < 0 ? 0 : pad, "");
    fputs(last ? "\n" : "  ", out);
}

static bool is_left_out(const json_t *row, const json_t *columns)
{
    size_t i;
    json_t *column;
    json_array_foreach(columns, i, column)
    {
        if (strcmp(text(column, "unit"), "nonzero") == 0 &&
            json_integer_value(field_of(row, text(column, "field"))) == 0)
            return true;
    }
    return false;
}

static bool is_right(const json_t *column)
{
    return strcmp(text(column, "unit"), "text") != 0 && strcmp(text(column, "unit"), "bool") != 0;
}

// ---- whole answers

struct table {
    FILE *out;
    const json_t *rows, *columns;
    size_t count; // of columns
    int *widths;
    int limit; // characters of a line
};

// What is printed at once: the first column and those from `from` to before `to`.
struct block {
    size_t from, to;
    int room; // for the last column's words, if that is narrower than they are; 0: no need
};

static const json_t *column_at(const struct table *table, size_t i)
{
    return json_array_get(table->columns, i);
}

// Takes in every row that will be shown, and returns how many there are.
static size_t measure(struct table *table)
{
    char cell[TABLE_CELL];
    size_t shown = 0, r;
    json_t *row;
    for (size_t i = 0; i < table->count; i++)
        table->widths[i] = width_of(text(column_at(table, i), "title"));
    json_array_foreach(table->rows, r, row)
    {
        if (is_left_out(row, table->columns))
            continue;
        shown++;
        for (size_t i = 0; i < table->count; i++) {
            cell_of(row, column_at(table, i), cell);
            if (width_of(cell) > table->widths[i])
                table->widths[i] = width_of(cell);
        }
    }
    return shown;
}

// As many columns as fit, at least one; words at the end may be broken into lines of their own.
static struct block next_block(const struct table *table, size_t from)
{
    struct block block = {.from = from, .to = from};
    int used = table->widths[0];
    while (block.to < table->count && used + 2 + table->widths[block.to] <= table->limit)
        used += 2 + table->widths[block.to++];
    if (block.to + 1 == table->count && !is_right(column_at(table, block.to)) &&
        table->limit - used - 2 >= WORDS_MIN) {
        block.room = table->limit - used - 2;
        block.to++;
    }
    if (block.to == from && from < table->count)
        block.to++;
    return block;
}

// Bytes of the longest beginning of `words` that fits into `room` characters, up to a blank if
// there is one. For words that are longer than that.
static size_t fitting(const char *words, int room)
{
    size_t end = 0, i = 0;
    for (int n = 0; words[i] != 0; i++) {
        n += ((unsigned char)words[i] & 0xc0) != 0x80;
        if (words[i] == ' ')
            end = i;
        if (n > room)
            break;
    }
    return end > 0 ? end : i;
}

static void put_words(FILE *out, const char *words, int indent, int room)
{
    while (width_of(words) > room) {
        size_t n = fitting(words, room);
        fprintf(out, "%.*s\n%*s", (int)n, words, indent, "");
        words += n;
        words += strspn(words, " ");
    }
    fprintf(out, "%s\n", words);
}

// `row` NULL: the titles.
static void print_line(const struct table *table, const struct block *block, const json_t *row)
{
    char cell[TABLE_CELL];
    int used = 0;
    for (size_t i = 0; i < block->to; i = i == 0 && block->from > 0 ? block->from : i + 1) {
        const json_t *column = column_at(table, i);
        bool last = i + 1 == block->to;
        if (row != NULL)
            cell_of(row, column, cell);
        else
            snprintf(cell, sizeof(cell), "%s", text(column, "title"));
        if (last && block->room > 0)
            put_words(table->out, cell, used, block->room);
        else
            put(table->out, cell, table->widths[i], is_right(column), last);
        used += table->widths[i] + 2;
    }
}

static void print_rows(struct table *table)
{
    size_t r, from = 1;
    json_t *row;
    if (measure(table) == 0) {
        fputs("none\n", table->out);
        return;
    }
    do {
        struct block block = next_block(table, from);
        if (from > 1)
            fputc('\n', table->out);
        print_line(table, &block, NULL);
        json_array_foreach(table->rows, r, row)
        {
            if (!is_left_out(row, table->columns))
                print_line(table, &block, row);
        }
        from = block.to;
    } while (from < table->count);
}

// One field a line; a column without title continues the line before it.
static void print_fields(FILE *out, const json_t *answer, const json_t *columns)
{
    char cell[TABLE_CELL];
    int width = 0;
    size_t i;
    json_t *column;
    json_array_foreach(columns, i, column)
    {
        if (width_of(text(column, "title")) > width)
            width = width_of(text(column, "title"));
    }
    json_array_foreach(columns, i, column)
    {
        const char *title = text(column, "title");
        cell_of(answer, column, cell);
        if (*title == 0)
            fprintf(out, ", %s", cell);
        else
            fprintf(out, "%s%-*s  %s", i == 0 ? "" : "\n", width, title, cell);
    }
    fputc('\n', out);
}

static const json_t *rows_of(const json_t *answer)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)answer, key, value)
    {
        if (json_is_array(value) && strcmp(key, "columns") != 0)
            return value;
    }
    return NULL;
}

int table_print(FILE *out, const json_t *answer, int limit)
{
    struct table table = {.out = out,
                          .rows = rows_of(answer),
                          .columns = json_object_get(answer, "columns"),
                          .limit = limit > 0 ? limit : INT_MAX};
    table.count = json_array_size(table.columns);
    if (table.count == 0)
        return -EINVAL;
    if (table.rows == NULL) {
        print_fields(out, answer, table.columns);
        return 0;
    }
    table.widths = calloc(table.count, sizeof(int));
    if (table.widths == NULL)
        return -ENOMEM;
    print_rows(&table);
    free(table.widths);
    long long left_out = json_integer_value(json_object_get(answer, "left_out"));
    if (left_out > 0)
        fprintf(out, "… and %lld more\n", left_out);
    return 0;
}
