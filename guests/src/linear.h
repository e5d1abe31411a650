/* The linear model and its text form, shared by train and reduce. Not a learner: see train.c.
 *
 *     legation-linear 1
 *     target progression
 *     rows 118
 *     features 2
 *     intercept 152.13348416289594
 *     weight age -0.47612079
 *     weight bmi 24.726549
 *
 * Words are separated by one space, lines by one newline; the last newline may be missing. Numbers are written with 17
 * significant digits, so that reading them back gives the same double. `rows` is the weight of the model in an average:
 * how many rows it was trained on. A prediction is intercept + sum of weight[j] * x[j], summed in that order. */
#ifndef LEGATION_LINEAR_H
#define LEGATION_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "task.h"

enum {
    COLUMNS_MAX = 64,               /* of a table: features and target */
    FEATURES_MAX = COLUMNS_MAX - 1, /* of a model */
    NAME_BYTES_MAX = 32,            /* of a column's name */
    NUMBER_BYTES_MAX = 40,          /* of a written number */
};

/* Rows behind a model; exact as a double, and INPUTS_MAX of them add up without wrapping. */
#define MODEL_ROWS_MAX UINT64_C(1000000000000)

struct model {
    uint64_t rows;
    unsigned features;
    struct text target;
    struct text name[FEATURES_MAX];
    double intercept;
    double weight[FEATURES_MAX];
};

/* Lines of a text, counted from 1. */
struct lines {
    const char *at;
    const char *end;
    unsigned long number;
};

/* Takes the next line, without its newline. False at the end. */
bool next_line(struct lines *lines, struct text *line);

bool text_equal(struct text a, struct text b);

/* Is this a column name: 1 to NAME_BYTES_MAX of letters, digits, '_', '-', '.'? */
bool is_name(struct text text);

/* Reads a finite decimal number. Gives NULL, or what is wrong with it. */
const char *parse_number(struct text text, double *number);

/* Reads a whole number from 1 to `max`. Gives NULL, or what is wrong with it. */
const char *parse_count(struct text text, uint64_t max, uint64_t *count);

/* Reads a model; refuses with "<what>: line L, column C: reason", where a line's columns are its words. The names point
 * into `text`. */
void model_read(const char *what, struct text text, struct model *model);

/* Are target and features the same, in the same order? */
bool model_same_shape(const struct model *a, const struct model *b);

/* Is every number finite? */
bool model_is_finite(const struct model *model);

/* Writes the model to stdout. */
void model_write(const struct model *model);

#endif
