/* reduce: the FedAvg server's step. Averages updates, each weighted by its rows, and prints the model with all rows.
 *
 *     reduce      inputs: 1 to INPUTS_MAX models of the same target and features
 *
 * The sums run in the order of the inputs: the same inputs in the same order give the same bytes. The output is a model
 * again, so averages can be averaged. */
#include <stdio.h>

#include "linear.h"

const char program[] = "reduce";

int main(int argc, char **argv) {
    struct inputs inputs;
    struct model sum = {0}, update;

    (void)argv;
    if (argc > 1) refuse(EXIT_REFUSED, "argument 1: reduce takes none");
    inputs_read(&inputs);
    if (inputs.count == 0) refuse(EXIT_REFUSED, "0 inputs, expected an update at least");
    for (unsigned i = 0; i < inputs.count; i++) {
        char what[sizeof "update 4294967295"];
        snprintf(what, sizeof what, "update %u", i + 1);
        model_read(what, inputs.item[i], &update);
        if (i == 0) {
            sum.features = update.features;
            sum.target = update.target;
            for (unsigned j = 0; j < update.features; j++) sum.name[j] = update.name[j];
        }
        if (!model_same_shape(&sum, &update))
            refuse(EXIT_REFUSED, "%s: line 1, column 1: its target or features are not those of update 1", what);
        double rows = (double)update.rows;
        sum.rows += update.rows;
        sum.intercept += rows * update.intercept;
        for (unsigned j = 0; j < sum.features; j++) sum.weight[j] += rows * update.weight[j];
    }
    if (sum.rows > MODEL_ROWS_MAX) refuse(EXIT_REFUSED, "the updates have too many rows together");

    double rows = (double)sum.rows;
    sum.intercept /= rows;
    for (unsigned j = 0; j < sum.features; j++) sum.weight[j] /= rows;
    if (!model_is_finite(&sum)) refuse(EXIT_DIVERGED, "the average is not finite");
    model_write(&sum);
    say("%u updates, %llu rows, %u features", inputs.count, (unsigned long long)sum.rows, sum.features);
    return 0;
}
