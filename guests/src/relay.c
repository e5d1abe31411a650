/* relay: has its input pass through other enclaves, hop by hop, and writes what comes back.
 *
 *     relay [HOP ...]      HOP: SHA256, or SHA256:OPTIONS, or + after a hop
 *
 * The first hop says which module is asked next, and how: OPTIONS are members of the JSON object that delegate_start takes, without
 * braces, and without `args`, because the other hops become the arguments of that module. Without hops it copies its input: so
 * `relay R:.. R:.. E:..`, where R is relay's own digest, goes through three enclaves, of which the last runs E. Where a `+` follows the
 * first hop the ways part: that hop has no others, and the input goes through those behind the `+` as well, at the same time; what
 * comes back is written in their order. `relay R:.. E:.. + F:..` has the second enclave ask both E and F. Used in tests. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "delegate.h"
#include "task.h"

const char program[] = "relay";

enum {
    DIGEST_BYTES = 32,
    OPTIONS_BYTES_MAX = 16 * 1024,
    STEP_BYTES = 64 * 1024,
    REASON_BYTES_MAX = 200, /* of what is said of a failure */
    WAYS_MAX = 8,           /* questions at once */
};

struct options {
    size_t used;
    char at[OPTIONS_BYTES_MAX];
};

static void put(struct options *to, const char *at, size_t len) {
    if (len > sizeof to->at - to->used) refuse(EXIT_REFUSED, "hops: over %d bytes", OPTIONS_BYTES_MAX);
    memcpy(to->at + to->used, at, len);
    to->used += len;
}

/* As a JSON string. */
static void put_string(struct options *to, const char *text) {
    put(to, "\"", 1);
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20) refuse(EXIT_REFUSED, "hops: a control character");
        if (*text == '"' || *text == '\\') put(to, "\\", 1);
        put(to, text, 1);
    }
    put(to, "\"", 1);
}

static int nibble(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* Reads the module of a hop; gives its options, or NULL. */
static const char *hop_read(const char *hop, uint8_t module[DIGEST_BYTES]) {
    for (int i = 0; i < DIGEST_BYTES; i++) {
        int high = nibble(hop[2 * i]);
        int low = high < 0 ? -1 : nibble(hop[2 * i + 1]);
        if (low < 0) refuse(EXIT_REFUSED, "hop: expected a SHA-256, in which digit %d or the next is not one of 0-9 a-f", 2 * i + 1);
        module[i] = (uint8_t)(high << 4 | low);
    }
    const char *rest = hop + 2 * DIGEST_BYTES;
    if (*rest == '\0') return NULL;
    if (*rest != ':' || rest[1] == '\0') refuse(EXIT_REFUSED, "hop: expected SHA256, or SHA256:OPTIONS");
    return rest + 1;
}

_Noreturn static void give_up(int32_t handle, int32_t error) {
    char why[REASON_BYTES_MAX] = "";
    int32_t len = delegate_error(handle, why, sizeof why);
    refuse(EXIT_HOST, "error %d: %.*s", (int)error, len > 0 ? (int)len : 0, why);
}

/* Asks for the first of the hops with the others as its arguments, or with none where a `+` follows it; gives the handle, and in
 * `used` how many arguments that took. */
static int32_t ask(int count, char **hops, struct text input, int *used) {
    static struct options options;
    uint8_t module[DIGEST_BYTES];

    const char *own = hop_read(hops[0], module);
    int end = count > 1 && strcmp(hops[1], "+") == 0 ? 1 : count;
    if (end == 1 && count == 2) refuse(EXIT_REFUSED, "no hop behind the +");
    options.used = 0;
    put(&options, "{\"args\":[", 9);
    for (int i = 1; i < end; i++) {
        if (i > 1) put(&options, ",", 1);
        put_string(&options, hops[i]);
    }
    put(&options, "]", 1);
    if (own != NULL) {
        put(&options, ",", 1);
        put(&options, own, strlen(own));
    }
    put(&options, "}", 1);
    int32_t call = delegate_start(module, input.at, (uint32_t)input.len, options.at, (uint32_t)options.used);
    if (call < 0) give_up(-1, call);
    *used = end < count ? end + 1 : end;
    return call;
}

static void answer_write(int32_t call) {
    static char step[STEP_BYTES];

    int32_t size = delegate_wait(call);
    if (size < 0) give_up(call, size);
    for (;;) {
        int32_t got = delegate_read(call, step, STEP_BYTES);
        if (got < 0) give_up(call, got);
        if (got == 0) break;
        write_all(STDOUT_FILENO, step, (size_t)got);
    }
    delegate_close(call);
}

int main(int argc, char **argv) {
    int32_t calls[WAYS_MAX];
    int ways = 0;
    struct inputs inputs;
    struct text text = {"", 0};

    inputs_read(&inputs);
    if (inputs.count > 1) refuse(EXIT_REFUSED, "%u inputs, expected one at most", inputs.count);
    if (inputs.count == 1) text = inputs.item[0];
    if (argc < 2) write_all(STDOUT_FILENO, text.at, text.len);
    for (int at = 1, used = 0; at < argc; at += used) {
        if (ways == WAYS_MAX) refuse(EXIT_REFUSED, "over %d ways", WAYS_MAX);
        calls[ways++] = ask(argc - at, argv + at, text, &used);
    }
    for (int way = 0; way < ways; way++) answer_write(calls[way]);
    return 0;
}
