/* split: counts the words of its inputs, and has the halves of long ones counted by other enclaves, where that is allowed.
 *
 * Without arguments it counts by itself. With `module=` and a SHA-256 in hexadecimal (its own, usually) it hands the two
 * halves of each input over ALONE_BYTES to that module, both at once, and adds up what they say; what nobody counted, it
 * counts itself. The result is the same either way. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "delegate.h"
#include "task.h"

const char program[] = "split";

enum {
    ALONE_BYTES = 4096,  /* shorter inputs are not worth a call */
    ANSWER_BYTES = 32,   /* "words " and a number */
    DIGEST_BYTES = 32,
};

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static uint64_t count(struct text text) {
    uint64_t words = 0;
    bool inside = false;
    for (size_t i = 0; i < text.len; i++) {
        bool space = is_space(text.at[i]);
        if (!space && !inside) words++;
        inside = !space;
    }
    return words;
}

static int nibble(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* Reads the one argument that there may be; whether there is one. */
static bool argument(int argc, char **argv, uint8_t module[DIGEST_BYTES]) {
    static const char name[] = "module=";
    if (argc < 2) return false;
    const char *hex = argv[1];
    if (argc > 2 || strncmp(hex, name, sizeof name - 1) != 0) refuse(EXIT_REFUSED, "arguments: expected module=SHA256, or none");
    hex += sizeof name - 1;
    if (strlen(hex) != 2 * DIGEST_BYTES) refuse(EXIT_REFUSED, "module: expected 64 hexadecimal digits");
    for (int i = 0; i < DIGEST_BYTES; i++) {
        int high = nibble(hex[2 * i]), low = nibble(hex[2 * i + 1]);
        if (high < 0 || low < 0) refuse(EXIT_REFUSED, "module: digit %d is not one of 0-9 a-f", 2 * i + 1);
        module[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static int32_t begin(const uint8_t module[DIGEST_BYTES], struct text half) {
    static const char options[] = "{\"output\":32}";
    return delegate_start(module, half.at, (uint32_t)half.len, options, sizeof options - 1);
}

/* What a call says of `half`; or, where it says nothing, the truth. */
static uint64_t finish(int32_t call, struct text half) {
    char answer[ANSWER_BYTES + 1];
    uint64_t words = 0;
    int32_t size = call < 0 ? call : delegate_wait(call);
    if (size < 0) {
        if (size != DELEGATE_NOT_ALLOWED) say("a half was counted here: error %d", (int)size);
        if (call >= 0) delegate_close(call);
        return count(half);
    }
    int32_t got = delegate_read(call, answer, ANSWER_BYTES);
    delegate_close(call);
    answer[got > 0 ? got : 0] = '\0';
    if (sscanf(answer, "words %" SCNu64, &words) != 1) refuse(EXIT_REFUSED, "an answer is not one of this program");
    return words;
}

int main(int argc, char **argv) {
    uint8_t module[DIGEST_BYTES];
    bool hands_on = argument(argc, argv, module);
    struct inputs inputs;
    inputs_read(&inputs);
    uint64_t words = 0;
    for (unsigned i = 0; i < inputs.count; i++) {
        struct text all = inputs.item[i];
        if (!hands_on || all.len <= ALONE_BYTES) {
            words += count(all);
            continue;
        }
        /* Between two words, so that none is counted twice. */
        size_t middle = all.len / 2;
        while (middle < all.len && !is_space(all.at[middle])) middle++;
        struct text first = {all.at, middle}, second = {all.at + middle, all.len - middle};
        int32_t calls[] = {begin(module, first), begin(module, second)};
        words += finish(calls[0], first);
        words += finish(calls[1], second);
    }
    char line[ANSWER_BYTES];
    int len = snprintf(line, sizeof line, "words %" PRIu64 "\n", words);
    write_all(STDOUT_FILENO, line, (size_t)len);
    return 0;
}
