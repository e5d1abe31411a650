#include "linear.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool next_line(struct lines *lines, struct text *line) {
    if (lines->at == lines->end) return false;
    size_t left = (size_t)(lines->end - lines->at);
    const char *newline = memchr(lines->at, '\n', left);
    line->at = lines->at;
    line->len = newline == NULL ? left : (size_t)(newline - lines->at);
    lines->at = newline == NULL ? lines->end : newline + 1;
    lines->number++;
    return true;
}

bool text_equal(struct text a, struct text b) { return a.len == b.len && memcmp(a.at, b.at, a.len) == 0; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_name(struct text text) {
    if (text.len == 0 || text.len > NAME_BYTES_MAX) return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        bool fine = is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-' || c == '.';
        if (!fine) return false;
    }
    return true;
}

/* "nan", "inf", "infinity" in any case: refused like everything that is not a number, but with a better reason. */
static bool is_special(const char *at) {
    static const char *const special[] = {"nan", "inf", "infinity"};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        size_t j = 0;
        while (special[i][j] != '\0' && (at[j] | 0x20) == special[i][j]) j++;
        if (special[i][j] == '\0' && at[j] == '\0') return true;
    }
    return false;
}

/* The grammar is checked here, so that strtod sees neither hexadecimal nor blanks: only its rounding is used. */
const char *parse_number(struct text text, double *number) {
    if (text.len == 0) return "empty, not a number";
    if (text.len > NUMBER_BYTES_MAX) return "too long for a number";
    char copy[NUMBER_BYTES_MAX + 1];
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';

    const char *at = copy;
    if (*at == '-' || *at == '+') at++;
    if (is_special(at)) return "not a finite number";
    size_t digits = 0;
    for (; is_digit(*at); at++) digits++;
    if (*at == '.') at++;
    for (; is_digit(*at); at++) digits++;
    if (digits == 0) return "not a number";
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '-' || *at == '+') at++;
        if (!is_digit(*at)) return "not a number";
        while (is_digit(*at)) at++;
    }
    if (at != copy + text.len) return "not a number";

    double value = strtod(copy, NULL);
    if (!isfinite(value)) return "outside the range of a double";
    *number = value;
    return NULL;
}

const char *parse_count(struct text text, uint64_t max, uint64_t *count) {
    if (text.len == 0) return "empty, not a whole number";
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (!is_digit(text.at[i])) return "not a whole number";
        uint64_t digit = (uint64_t)(text.at[i] - '0');
        if (value > (max - digit) / 10) return "over the limit";
        value = value * 10 + digit;
    }
    if (value == 0) return "zero";
    *count = value;
    return NULL;
}

enum { WORDS_MAX = 3 };

/* Where a model is being read; all of it goes into a refusal. */
struct reading {
    const char *what;
    struct lines lines;
};

_Noreturn static void refuse_word(const struct reading *reading, unsigned column, const char *reason) {
    refuse(EXIT_REFUSED, "%s: line %lu, column %u: %s", reading->what, reading->lines.number, column, reason);
}

/* Takes the next line, which must be `count` words of which the first is `keyword`. */
static void words_read(struct reading *reading, const char *keyword, unsigned count, struct text words[WORDS_MAX]) {
    struct text line;
    if (!next_line(&reading->lines, &line))
        refuse(EXIT_REFUSED, "%s: line %lu, column 1: the model ends where a line \"%s\" is due", reading->what,
               reading->lines.number + 1, keyword);
    size_t start = 0;
    for (unsigned i = 0; i < count; i++) {
        if (start > line.len) refuse_word(reading, i + 1, "the line ends early");
        const char *space = memchr(line.at + start, ' ', line.len - start);
        size_t end = space == NULL || i + 1 == count ? line.len : (size_t)(space - line.at);
        words[i] = (struct text){line.at + start, end - start};
        start = end + 1;
        if (i == 0 && !text_equal(words[0], (struct text){keyword, strlen(keyword)}))
            refuse(EXIT_REFUSED, "%s: line %lu, column 1: expected \"%s\"", reading->what, reading->lines.number,
                   keyword);
    }
}

static uint64_t count_read(struct reading *reading, const char *keyword, uint64_t max) {
    struct text words[WORDS_MAX];
    uint64_t count = 0;
    words_read(reading, keyword, 2, words);
    const char *wrong = parse_count(words[1], max, &count);
    if (wrong != NULL) refuse_word(reading, 2, wrong);
    return count;
}

static double number_read(const struct reading *reading, unsigned column, struct text word) {
    double number = 0;
    const char *wrong = parse_number(word, &number);
    if (wrong != NULL) refuse_word(reading, column, wrong);
    return number;
}

void model_read(const char *what, struct text text, struct model *model) {
    struct reading reading = {what, {text.at, text.at + text.len, 0}};
    struct text words[WORDS_MAX];

    words_read(&reading, "legation-linear", 2, words);
    if (!text_equal(words[1], (struct text){"1", 1})) refuse_word(&reading, 2, "unknown version, expected 1");
    words_read(&reading, "target", 2, words);
    if (!is_name(words[1])) refuse_word(&reading, 2, "not a column name");
    model->target = words[1];
    model->rows = count_read(&reading, "rows", MODEL_ROWS_MAX);
    model->features = (unsigned)count_read(&reading, "features", FEATURES_MAX);
    words_read(&reading, "intercept", 2, words);
    model->intercept = number_read(&reading, 2, words[1]);
    for (unsigned i = 0; i < model->features; i++) {
        words_read(&reading, "weight", 3, words);
        if (!is_name(words[1])) refuse_word(&reading, 2, "not a column name");
        bool twice = text_equal(words[1], model->target);
        for (unsigned j = 0; j < i; j++) twice = twice || text_equal(words[1], model->name[j]);
        if (twice) refuse_word(&reading, 2, "a name used twice");
        model->name[i] = words[1];
        model->weight[i] = number_read(&reading, 3, words[2]);
    }
    struct text line;
    if (next_line(&reading.lines, &line)) refuse_word(&reading, 1, "a line after the last weight");
}

bool model_same_shape(const struct model *a, const struct model *b) {
    if (a->features != b->features || !text_equal(a->target, b->target)) return false;
    for (unsigned i = 0; i < a->features; i++)
        if (!text_equal(a->name[i], b->name[i])) return false;
    return true;
}

bool model_is_finite(const struct model *model) {
    if (!isfinite(model->intercept)) return false;
    for (unsigned i = 0; i < model->features; i++)
        if (!isfinite(model->weight[i])) return false;
    return true;
}

void model_write(const struct model *model) {
    /* A line is at most "weight " + name + " " + "-1.2345678901234567e-308" + newline: 65 bytes with room to spare. */
    static char page[(5 + FEATURES_MAX) * (NAME_BYTES_MAX + 40)];
    size_t used = 0;
    used += (size_t)snprintf(page, sizeof page,
                             "legation-linear 1\ntarget %.*s\nrows %" PRIu64 "\nfeatures %u\nintercept %.17g\n",
                             (int)model->target.len, model->target.at, model->rows, model->features, model->intercept);
    for (unsigned i = 0; i < model->features; i++)
        used += (size_t)snprintf(page + used, sizeof page - used, "weight %.*s %.17g\n", (int)model->name[i].len,
                                 model->name[i].at, model->weight[i]);
    write_all(STDOUT_FILENO, page, used);
}
