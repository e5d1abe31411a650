#include "task.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { READ_STEP = 64 * 1024 };

void write_all(int fd, const char *at, size_t len) {
    while (len > 0) {
        ssize_t put = write(fd, at, len);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) _Exit(EXIT_HOST); /* no message: the stream that failed may be the log itself */
        at += put;
        len -= (size_t)put;
    }
}

static void log_line(const char *format, va_list list) {
    char line[MESSAGE_BYTES_MAX];
    int head = snprintf(line, sizeof line, "%s: ", program);
    size_t used = head < 0 ? 0 : (size_t)head;
    if (used >= sizeof line) used = sizeof line - 1;
    int body = vsnprintf(line + used, sizeof line - used, format, list);
    if (body > 0) used += (size_t)body;
    if (used > sizeof line - 1) used = sizeof line - 1; /* cut, not overrun */
    line[used] = '\n';
    write_all(STDERR_FILENO, line, used + 1);
}

void say(const char *format, ...) {
    va_list list;
    va_start(list, format);
    log_line(format, list);
    va_end(list);
}

void refuse(int code, const char *format, ...) {
    va_list list;
    va_start(list, format);
    log_line(format, list);
    va_end(list);
    _Exit(code);
}

void *memory(size_t bytes) {
    void *found = malloc(bytes > 0 ? bytes : 1);
    if (found == NULL) refuse(EXIT_HOST, "no memory for %zu bytes", bytes);
    return found;
}

/* Parses LEGATION_INPUTS into `lengths` and gives their sum, which is at most INPUT_BYTES_MAX. */
static size_t parse_lengths(const char *text, size_t lengths[INPUTS_MAX], unsigned *count) {
    size_t total = 0;
    *count = 0;
    if (*text == '\0') return 0;
    for (;;) {
        if (*count == INPUTS_MAX) refuse(EXIT_REFUSED, "LEGATION_INPUTS: more than %d inputs", INPUTS_MAX);
        if (*text < '0' || *text > '9') refuse(EXIT_REFUSED, "LEGATION_INPUTS: length %u is not a number", *count + 1);
        size_t length = 0;
        for (; *text >= '0' && *text <= '9'; text++) {
            length = length * 10 + (size_t)(*text - '0'); /* bounded by the next line before it can wrap */
            if (length > INPUT_BYTES_MAX - total)
                refuse(EXIT_REFUSED, "LEGATION_INPUTS: the inputs are over %d bytes together", INPUT_BYTES_MAX);
        }
        lengths[(*count)++] = length;
        total += length;
        if (*text == '\0') return total;
        if (*text != ',') refuse(EXIT_REFUSED, "LEGATION_INPUTS: length %u is not a number", *count);
        text++;
    }
}

void inputs_read(struct inputs *inputs) {
    size_t lengths[INPUTS_MAX];
    const char *split = getenv("LEGATION_INPUTS");
    bool known = split != NULL;
    size_t total = known ? parse_lengths(split, lengths, &inputs->count) : 0;

    /* One byte more than may be there, so that a byte too many is seen. */
    size_t room = known ? total + 1 : READ_STEP;
    size_t len = 0;
    char *bytes = memory(room);
    for (;;) {
        ssize_t got = read(STDIN_FILENO, bytes + len, room - len);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) refuse(EXIT_HOST, "reading stdin failed");
        if (got == 0) break;
        len += (size_t)got;
        if (len < room) continue;
        if (known) refuse(EXIT_REFUSED, "stdin holds more than the %zu bytes of LEGATION_INPUTS", total);
        if (room > INPUT_BYTES_MAX) refuse(EXIT_REFUSED, "stdin is over %d bytes", INPUT_BYTES_MAX);
        room = room > INPUT_BYTES_MAX / 2 ? (size_t)INPUT_BYTES_MAX + 1 : room * 2;
        char *larger = realloc(bytes, room);
        if (larger == NULL) refuse(EXIT_HOST, "no memory for %zu bytes", room);
        bytes = larger;
    }

    if (!known) {
        inputs->count = 1;
        inputs->item[0] = (struct text){bytes, len};
        return;
    }
    if (len < total) refuse(EXIT_REFUSED, "stdin ended after %zu of the %zu bytes of LEGATION_INPUTS", len, total);
    const char *at = bytes;
    for (unsigned i = 0; i < inputs->count; i++) {
        inputs->item[i] = (struct text){at, lengths[i]};
        at += lengths[i];
    }
}
