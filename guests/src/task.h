/* What every guest that reads inputs shares: the inputs of a Legation task, bounded; refusals; output.
 *
 * A task is a WASI preview-1 command: stdin in, stdout out, stderr is its log. Several inputs arrive on stdin one after
 * the other, and LEGATION_INPUTS holds their byte lengths, comma separated ("1234,567"). Without the variable, stdin is
 * one input.
 *
 * Invariant: nothing of an input's values reaches stderr. Refusals name a place (line, column, a checked column name)
 * and a reason, never the bytes found there, because logs travel further than results. */
#ifndef LEGATION_TASK_H
#define LEGATION_TASK_H

#include <stddef.h>

enum {
    INPUTS_MAX = 64,               /* inputs of one task */
    INPUT_BYTES_MAX = 8 * 1 << 20, /* all inputs together */
    MESSAGE_BYTES_MAX = 256,       /* one line of the log */
};

enum {
    EXIT_HOST = 1,      /* reading, writing or memory failed: worth a retry elsewhere */
    EXIT_REFUSED = 2,   /* an input or an argument is malformed or over a limit: the same again gives the same */
    EXIT_DIVERGED = 3,  /* the inputs are well formed, but the arithmetic left the finite numbers */
};

/* Bytes that belong to somebody else; not NUL terminated. */
struct text {
    const char *at;
    size_t len;
};

struct inputs {
    unsigned count;
    struct text item[INPUTS_MAX];
};

/* Writes "<program>: <message>\n" to stderr and exits with `code`. */
_Noreturn void refuse(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes "<program>: <message>\n" to stderr. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Reads all of stdin and splits it. Refuses when the lengths are malformed, over a limit, or do not add up. */
void inputs_read(struct inputs *inputs);

/* `malloc` that refuses with EXIT_HOST instead of returning NULL. `bytes` is bounded by the caller. */
void *memory(size_t bytes);

/* Writes everything to `fd`, or refuses with EXIT_HOST. */
void write_all(int fd, const char *at, size_t len);

/* Defined once by each program: the name in front of its log lines. */
extern const char program[];

#endif
