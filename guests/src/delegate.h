/* How a task has parts of itself run by other enclaves: the import module `legation_task_v1` of Legation's engine.
 * docs/write-a-task.md tells how to use it.
 *
 * Nothing here blocks but delegate_wait. A question goes on by itself once it was started: start several, then wait for
 * each. What is below zero is one of the errors; delegate_error tells the reason in words.
 *
 * Compiled for another machine than WebAssembly there is nobody to ask, and every start says so: a program that does the
 * work itself then can be tested anywhere. */
#ifndef LEGATION_DELEGATE_H
#define LEGATION_DELEGATE_H

#include <stdint.h>

enum {
    DELEGATE_NOT_YET = -6,      /* the answer is read before it was waited for */
    DELEGATE_NO_HANDLE = -8,    /* no such handle, or one that was closed */
    DELEGATE_FAILED = -12,      /* it ran there, and failed by its own doing: it would fail anywhere */
    DELEGATE_FAULT = -21,       /* a pointer outside memory */
    DELEGATE_UNANSWERED = -23,  /* nobody could be asked, nobody answered in time, or replicas disagree */
    DELEGATE_INVALID = -28,     /* the options are malformed, or ask for more than a call may have */
    DELEGATE_TOO_MANY = -33,    /* too many questions, or too many bytes of them, at once */
    DELEGATE_TOO_LONG = -35,    /* input or options are too long */
    DELEGATE_NOT_ALLOWED = -76, /* the request, or the grants, do not let that be handed on */
};

#ifdef __wasm__

#define LEGATION_IMPORT(name) __attribute__((import_module("legation_task_v1"), import_name(#name)))

/* Asks for `module` (a SHA-256) to be run on `input`. `options` is a JSON object, or nothing. Gives a handle. */
LEGATION_IMPORT(delegate_start)
int32_t delegate_start(const uint8_t module[32], const void *input, uint32_t input_len, const char *options,
                       uint32_t options_len);

/* Waits for the answer; gives its bytes. */
LEGATION_IMPORT(delegate_wait) int32_t delegate_wait(int32_t handle);

/* Copies the next bytes of an answer that was waited for; gives how many, 0 at its end. */
LEGATION_IMPORT(delegate_read) int32_t delegate_read(int32_t handle, void *to, uint32_t len);

/* Copies the reason of a failure; of handle -1, of the last start that gave none. Gives how many bytes. */
LEGATION_IMPORT(delegate_error) int32_t delegate_error(int32_t handle, char *to, uint32_t len);

/* Forgets a question and its answer. */
LEGATION_IMPORT(delegate_close) int32_t delegate_close(int32_t handle);

#else

static inline int32_t delegate_start(const uint8_t module[32], const void *input, uint32_t input_len,
                                     const char *options, uint32_t options_len) {
    (void)module, (void)input, (void)input_len, (void)options, (void)options_len;
    return DELEGATE_NOT_ALLOWED;
}

static inline int32_t delegate_wait(int32_t handle) {
    (void)handle;
    return DELEGATE_NO_HANDLE;
}

static inline int32_t delegate_read(int32_t handle, void *to, uint32_t len) {
    (void)handle, (void)to, (void)len;
    return DELEGATE_NO_HANDLE;
}

static inline int32_t delegate_error(int32_t handle, char *to, uint32_t len) {
    (void)handle, (void)to, (void)len;
    return 0;
}

static inline int32_t delegate_close(int32_t handle) {
    (void)handle;
    return DELEGATE_NO_HANDLE;
}

#endif
#endif
