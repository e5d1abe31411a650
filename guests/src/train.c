/* train: one FedAvg client round of ridge linear regression, by full-batch gradient descent.
 *
 *     train epochs=N rate=R l2=L      inputs: rows (CSV), then the model to start from (empty or absent: all zeros)
 *
 * The table's first line names the columns; the last column is the target. Minimises
 *     1/(2 n) * sum over rows (intercept + w.x - y)^2 + l2/2 * |w|^2      (the intercept is not penalised)
 * and prints the model reached after `epochs` steps of size `rate`, with this table's row count. Every sum runs in row
 * and column order and nothing is contracted, so the result is the same to the last bit wherever it runs.
 *
 * McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017, ClientUpdate with
 * B = infinity. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linear.h"

const char program[] = "train";

enum {
    ROWS_MAX = 100000,
    CELLS_MAX = 1 << 20, /* rows times columns; 8 MiB of doubles */
    EPOCHS_MAX = 1000000,
};

#define RATE_MAX 1.0
#define L2_MAX 1000.0

struct table {
    unsigned columns;
    struct text name[COLUMNS_MAX];
    size_t rows;
    double *cell; /* row by row, the target last */
};

struct settings {
    uint64_t epochs;
    double rate;
    double l2;
};

/* The settings, each exactly once, in any order: "epochs=100". */
static void settings_read(int argc, char **argv, struct settings *settings) {
    static const char *const key[] = {"epochs=", "rate=", "l2="};
    struct text value[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    for (int i = 1; i < argc; i++) {
        unsigned k = 0;
        while (k < 3 && strncmp(argv[i], key[k], strlen(key[k])) != 0) k++;
        if (k == 3) refuse(EXIT_REFUSED, "argument %d: not one of epochs=N rate=R l2=L", i);
        if (value[k].at != NULL) refuse(EXIT_REFUSED, "argument %d: %s given twice", i, key[k]);
        value[k].at = argv[i] + strlen(key[k]);
        value[k].len = strlen(value[k].at);
    }
    for (unsigned k = 0; k < 3; k++)
        if (value[k].at == NULL) refuse(EXIT_REFUSED, "argument %s is missing: train epochs=N rate=R l2=L", key[k]);

    const char *wrong = parse_count(value[0], EPOCHS_MAX, &settings->epochs);
    if (wrong != NULL) refuse(EXIT_REFUSED, "epochs: %s, expected 1 to %d", wrong, EPOCHS_MAX);
    wrong = parse_number(value[1], &settings->rate);
    if (wrong != NULL) refuse(EXIT_REFUSED, "rate: %s", wrong);
    if (!(settings->rate > 0 && settings->rate <= RATE_MAX)) refuse(EXIT_REFUSED, "rate: not in (0, %g]", RATE_MAX);
    wrong = parse_number(value[2], &settings->l2);
    if (wrong != NULL) refuse(EXIT_REFUSED, "l2: %s", wrong);
    if (!(settings->l2 >= 0 && settings->l2 <= L2_MAX)) refuse(EXIT_REFUSED, "l2: not in [0, %g]", L2_MAX);
}

/* A line's next cell. False after the last one. `start` is where it begins, and moves behind its comma. */
static bool next_cell(struct text line, size_t *start, struct text *cell) {
    if (*start > line.len) return false;
    const char *comma = memchr(line.at + *start, ',', line.len - *start);
    size_t end = comma == NULL ? line.len : (size_t)(comma - line.at);
    *cell = (struct text){line.at + *start, end - *start};
    *start = end + 1;
    return true;
}

/* A line of the table; spreadsheets end lines with CR LF. */
static bool next_row(struct lines *lines, struct text *line) {
    if (!next_line(lines, line)) return false;
    if (line->len > 0 && line->at[line->len - 1] == '\r') line->len--;
    return true;
}

static void header_read(struct lines *lines, struct table *table) {
    struct text line, cell;
    if (!next_row(lines, &line)) refuse(EXIT_REFUSED, "rows: line 1, column 1: empty, expected a header");
    table->columns = 0;
    for (size_t start = 0; next_cell(line, &start, &cell);) {
        unsigned column = table->columns + 1;
        if (column > COLUMNS_MAX)
            refuse(EXIT_REFUSED, "rows: line 1, column %u: more than %d columns", column, COLUMNS_MAX);
        if (!is_name(cell))
            refuse(EXIT_REFUSED, "rows: line 1, column %u: not a column name (1 to %d of a-z A-Z 0-9 _ - .)", column,
                   NAME_BYTES_MAX);
        for (unsigned i = 0; i < table->columns; i++)
            if (text_equal(table->name[i], cell))
                refuse(EXIT_REFUSED, "rows: line 1, column %u: the name of column %u again", column, i + 1);
        table->name[table->columns++] = cell;
    }
    if (table->columns < 2) refuse(EXIT_REFUSED, "rows: line 1, column 2: expected a feature and a target at least");
}

static void row_read(unsigned long number, struct text line, const struct table *table, double *to) {
    struct text cell;
    unsigned column = 0;
    for (size_t start = 0; next_cell(line, &start, &cell); column++) {
        if (column == table->columns)
            refuse(EXIT_REFUSED, "rows: line %lu, column %u: a cell too many, the header has %u columns", number,
                   column + 1, table->columns);
        const char *wrong = parse_number(cell, &to[column]);
        if (wrong != NULL)
            refuse(EXIT_REFUSED, "rows: line %lu, column %u (%.*s): %s", number, column + 1,
                   (int)table->name[column].len, table->name[column].at, wrong);
    }
    if (column < table->columns)
        refuse(EXIT_REFUSED, "rows: line %lu, column %u: the row ends here, the header has %u columns", number,
               column + 1, table->columns);
}

static void table_read(struct text text, struct table *table) {
    struct lines lines = {text.at, text.at + text.len, 0};
    struct text line;
    header_read(&lines, table);

    size_t rows = 0;
    for (struct lines ahead = lines; next_line(&ahead, &line); rows++)
        if (rows == ROWS_MAX)
            refuse(EXIT_REFUSED, "rows: line %lu, column 1: more than %d rows", ahead.number, ROWS_MAX);
    if (rows == 0) refuse(EXIT_REFUSED, "rows: line 2, column 1: no rows");
    if (rows > CELLS_MAX / table->columns)
        refuse(EXIT_REFUSED, "rows: %zu rows of %u columns are over %d cells", rows, table->columns, CELLS_MAX);

    table->rows = rows;
    table->cell = memory(rows * table->columns * sizeof *table->cell);
    for (size_t row = 0; next_row(&lines, &line); row++)
        row_read(lines.number, line, table, table->cell + row * table->columns);
}

/* The model to start from: the one given, or zeros. */
static void start(const struct table *table, struct text given, struct model *model) {
    struct model zero = {.rows = table->rows, .features = table->columns - 1, .target = table->name[table->columns - 1]};
    for (unsigned i = 0; i < zero.features; i++) zero.name[i] = table->name[i];
    *model = zero;
    if (given.len == 0) return;
    struct model from;
    model_read("model", given, &from);
    if (!model_same_shape(&from, model))
        refuse(EXIT_REFUSED, "model: line 1, column 1: its target or features are not the columns of the rows");
    model->intercept = from.intercept;
    memcpy(model->weight, from.weight, sizeof model->weight[0] * model->features);
}

/* One step down the gradient of the whole table. */
static void descend(const struct table *table, const struct settings *settings, struct model *model) {
    double slope[FEATURES_MAX];
    double lift = 0;
    unsigned features = model->features;
    for (unsigned j = 0; j < features; j++) slope[j] = 0;
    for (size_t row = 0; row < table->rows; row++) {
        const double *x = table->cell + row * table->columns;
        double off = model->intercept;
        for (unsigned j = 0; j < features; j++) off += model->weight[j] * x[j];
        off -= x[features];
        lift += off;
        for (unsigned j = 0; j < features; j++) slope[j] += off * x[j];
    }
    double rows = (double)table->rows;
    model->intercept -= settings->rate * (lift / rows);
    for (unsigned j = 0; j < features; j++)
        model->weight[j] -= settings->rate * (slope[j] / rows + settings->l2 * model->weight[j]);
}

int main(int argc, char **argv) {
    struct settings settings;
    struct inputs inputs;
    struct table table;
    struct model model;

    settings_read(argc, argv, &settings);
    inputs_read(&inputs);
    if (inputs.count < 1 || inputs.count > 2)
        refuse(EXIT_REFUSED, "%u inputs, expected the rows and the model", inputs.count);
    table_read(inputs.item[0], &table);
    start(&table, inputs.count == 2 ? inputs.item[1] : (struct text){"", 0}, &model);

    for (uint64_t epoch = 0; epoch < settings.epochs; epoch++) {
        descend(&table, &settings, &model);
        if (!model_is_finite(&model))
            refuse(EXIT_DIVERGED, "diverged at epoch %llu: scale the features or lower the rate",
                   (unsigned long long)epoch + 1);
    }
    model_write(&model);
    say("%zu rows, %u features, %llu epochs", table.rows, model.features, (unsigned long long)settings.epochs);
    return 0;
}
