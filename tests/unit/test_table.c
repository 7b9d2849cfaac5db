// hitlessctl's tables: cells by unit, then whole answers as text.
#include "../../controlplane/cli/table.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *json, *unit, *cell;
} cells[] = {
    {"\"demo\"", "text", "demo"},
    {"\"a\\u001b[31mb\\n\"", "text", "a?[31mb?"}, // no escape reaches the terminal
    {"null", "text", "-"},
    {"\"\"", "text", "-"},
    {"null", "count", "-"},
    {"{}", "text", "-"},
    {"true", "bool", "yes"},
    {"false", "bool", "no"},
    {"4711", "text", "4711"},
    {"0", "count", "0"},
    {"999999", "count", "999999"},
    {"1234567", "count", "1.23M"},
    {"0", "rate", "0/s"},
    {"999", "rate", "999/s"},
    {"1000", "rate", "1.00k/s"},
    {"12345", "rate", "12.3k/s"},
    {"999600", "rate", "1.00M/s"},
    {"1250000", "bitrate", "1.25Mbit/s"},
    {"99960", "bitrate", "100kbit/s"},
    {"0", "us", "-"},
    {"1234", "us", "1.23ms"},
    {"45678", "us", "46ms"},
    {"7", "ms", "7.00ms"},
    {"12345", "ms", "12s"},
    {"59", "s", "59s"},
    {"61", "s", "1m01s"},
    {"3661", "s", "1h01m"},
    {"90000", "s", "1d01h"},
    {"12.34", "percent", "12.3%"},
    {"4", "permille", "0.4%"},
    {"9223372036854775807", "rate", "9.22E/s"},
};

static void cells_have_units(void **state)
{
    for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++) {
        char cell[TABLE_CELL];
        json_t *value = json_loads(cells[i].json, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        table_format(value, cells[i].unit, cell);
        assert_string_equal(cell, cells[i].cell);
        json_decref(value);
    }
}

static void missing_and_long_values(void **state)
{
    char cell[TABLE_CELL], longest[2000];
    table_format(NULL, "rate", cell);
    assert_string_equal(cell, "-");
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    json_t *value = json_string(longest);
    table_format(value, "text", cell);
    assert_int_equal(strlen(cell), TABLE_CELL - 1);
    json_decref(value);
}

#define WIDE                                                                                       \
    "{\"rows\":[{\"k\":\"x\",\"a\":12345,\"w\":\"one two three four five six seven eight\"}],"     \
    "\"columns\":[{\"field\":\"k\",\"title\":\"K\",\"unit\":\"text\"},"                            \
    "{\"field\":\"a\",\"title\":\"A\",\"unit\":\"count\"},"                                        \
    "{\"field\":\"w\",\"title\":\"WORDS\",\"unit\":\"text\"}]}"

static const struct {
    int limit;
    const char *answer, *text;
} answers[] = {
    {0,
     "{\"rows\":[{\"a\":\"x\",\"b\":5},{\"a\":\"longer\",\"b\":12345},{\"a\":\"\xc3\xa9t\xc3\xa9\"}"
     "],"
     "\"columns\":[{\"field\":\"a\",\"title\":\"NAME\",\"unit\":\"text\"},"
     "{\"field\":\"b\",\"title\":\"N\",\"unit\":\"count\"},"
     "{\"field\":\"a\",\"title\":\"AGAIN\",\"unit\":\"text\"}]}",
     "NAME        N  AGAIN\n"
     "x           5  x\n"
     "longer  12345  longer\n"
     "\xc3\xa9t\xc3\xa9         -  \xc3\xa9t\xc3\xa9\n"},
    {0,
     "{\"rows\":[{\"a\":\"x\",\"b\":0},{\"a\":\"y\",\"b\":1}],"
     "\"columns\":[{\"field\":\"a\",\"title\":\"A\",\"unit\":\"text\"},"
     "{\"field\":\"b\",\"title\":\"B\",\"unit\":\"nonzero\"}],\"left_out\":3}",
     "A  B\ny  1\n… and 3 more\n"},
    {0, "{\"rows\":[],\"columns\":[{\"field\":\"a\",\"title\":\"A\",\"unit\":\"text\"}]}",
     "none\n"},
    {0,
     "{\"node\":\"a\",\"dp\":{\"state\":\"alive\"},\"rx\":1000,"
     "\"columns\":[{\"field\":\"node\",\"title\":\"node\",\"unit\":\"text\"},"
     "{\"field\":\"dp.state\",\"title\":\"dataplane\",\"unit\":\"text\"},"
     "{\"field\":\"rx\",\"title\":\"\",\"unit\":\"rate\"},"
     "{\"field\":\"gone.x\",\"title\":\"more\",\"unit\":\"rate\"}]}",
     "node       a\ndataplane  alive, 1.00k/s\nmore       -\n"},
    {0, WIDE, "K      A  WORDS\nx  12345  one two three four five six seven eight\n"},
    {49, WIDE, "K      A  WORDS\nx  12345  one two three four five six seven eight\n"},
    {48, WIDE, "K      A  WORDS\nx  12345  one two three four five six seven\n          eight\n"},
    {34, WIDE, "K      A  WORDS\nx  12345  one two three four five\n          six seven eight\n"},
    {33, WIDE, "K      A\nx  12345\n\nK  WORDS\nx  one two three four five six\n   seven eight\n"},
    {5, WIDE, "K      A\nx  12345\n\nK  WORDS\nx  one two three four five six seven eight\n"},
};

static void answers_become_tables(void **state)
{
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        json_t *answer = json_loads(answers[i].answer, 0, NULL);
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        assert_non_null(answer);
        assert_int_equal(table_print(out, answer, answers[i].limit), 0);
        fclose(out);
        assert_string_equal(text, answers[i].text);
        free(text);
        json_decref(answer);
    }
}

static void answers_without_columns_are_refused(void **state)
{
    json_t *answer = json_loads("{\"rows\":[]}", 0, NULL);
    assert_int_equal(table_print(stdout, answer, 0), -EINVAL);
    json_decref(answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_have_units),
        cmocka_unit_test(missing_and_long_values),
        cmocka_unit_test(answers_become_tables),
        cmocka_unit_test(answers_without_columns_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
