/* local.h - values that belong to a fiber, and labels that say what it works on.
 *
 * Thread-locals do not do: a fiber wakes on another thread. Locals are for libraries that must find
 * their state without being handed it; they are not inherited, because one value cannot have two
 * owners. Labels are text for people: dumps, profiles and logs show them, and children inherit
 * them. */
#ifndef FEN_LOCAL_H
#define FEN_LOCAL_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- fiber-local values ---- */

/* A kind of value; all zeros is none. A small value, to be copied. */
typedef struct fen_local_key {
    uint32_t index, generation;
} fen_local_key;

/* A new key. destroy(value), unless NULL, is called on each fiber that ends with a value other than
 * NULL, before a scope's close sees that the fiber has ended; it may block and runs with
 * cancellation masked. Values that destructors set are destroyed too, four rounds long. 0, or
 * FEN_ELIMIT at 128 keys. Any thread, also without a runtime. */
FEN_API int fen_local_key_new(void (*destroy)(void *value), fen_local_key *ret_key) FEN_MUST_CHECK;

/* Ends a key; its values are forgotten, not destroyed. A key that has ended already is left alone.
 * Any thread. */
FEN_API void fen_local_key_free(fen_local_key key);

/* Sets the running fiber's value; the old one is not destroyed. 0, -EINVAL for a key that ended,
 * -ENOMEM (the first value, or the first of a higher key), FEN_ENOTFIBER. */
FEN_API int fen_local_set(fen_local_key key, void *value) FEN_MUST_CHECK;

/* The running fiber's value; NULL if it has none, the key has ended, or outside a fiber. An array
 * access, about 2 ns. */
FEN_API void *fen_local_get(fen_local_key key);

/* ---- labels ---- */

#define FEN_LABELS_MAX 8       /* a fiber's */
#define FEN_LABEL_KEY_MAX 31   /* bytes */
#define FEN_LABEL_VALUE_MAX 63 /* bytes */
#define FEN_LABELS_BYTES 224   /* all keys and values, with a byte after each */

/* Labels the running fiber key=value, for itself and the fibers that it starts from now on; value.p
 * NULL takes the label away (0 also if there was none). A key has 1 to 31 of a-z 0-9 _ . and begins
 * with a letter; a value at most 63 bytes without control characters; both are copied. 0, -EINVAL
 * (also for a key of NULL), FEN_ELIMIT when it would be the ninth or there is no room, -ENOMEM,
 * FEN_ENOTFIBER. */
FEN_API int fen_label_set(const char *key, fen_slice value) FEN_MUST_CHECK;

/* The running fiber's label of that key; the i-th, from 0, in the order in which they were set. The
 * slices live until the fiber sets a label or ends. 0 or -ENOENT (also outside a fiber); get:
 * -EINVAL for a key of NULL. */
FEN_API int fen_label_get(const char *key, fen_slice *ret_value);
FEN_API int fen_label_at(int i, fen_slice *ret_key, fen_slice *ret_value);

#ifdef __cplusplus
}
#endif
#endif
