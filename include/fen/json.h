/* json.h - JSON without reflection: a writer that appends to a buffer, a strict reader, and an
 * X-macro that turns a field list into an encoder and a decoder at compile time.
 *
 * Nothing here blocks or takes memory but from the buffer's grow function or the arena given.
 * Any thread; a buffer, a writer and a reader have one owner at a time. */
#ifndef FEN_JSON_H
#define FEN_JSON_H

#include <fen/arena.h>
#include <fen/buf.h>
#include <fen/err.h>
#include <fen/types.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- single values, as JSON text ---- */

/* Each of these appends one value to b and blocks never. A failure is the buffer's: b->err becomes
 * -ENOMEM or -ENOBUFS, and what was appended last may be cut. Any thread; b has one owner. */

/* In decimal, exact over the whole range. A reader that keeps numbers in doubles (JavaScript) loses
 * digits beyond 2^53. */
FEN_API void fen_json_value_i64(fen_buf *b, int64_t v);

/* The shortest decimal that reads back as v; whole numbers below 2^53 without a point. NaN and the
 * infinities, which JSON lacks, become null. Independent of the locale. */
FEN_API void fen_json_value_f64(fen_buf *b, double v);

/* true or false. */
FEN_API void fen_json_value_bool(fen_buf *b, bool v);

/* null. */
FEN_API void fen_json_value_null(fen_buf *b);

/* Quoted and escaped; v is copied, and an empty v (p may be NULL) is "". Bytes that are not UTF-8
 * become U+FFFD, one per maximal bad sequence. */
FEN_API void fen_json_value_string(fen_buf *b, fen_slice v);

/* ---- the writer: commas, colons and depth ---- */

#define FEN_JSON_DEPTH 64 /* nested objects and arrays, for the writer and the reader */

/* Lies in the caller's memory, borrows b and holds nothing that needs freeing. All fields are
 * readable, only the functions below write. Misuse (a value without key in an object, an end
 * without begin, two values at the top, more than FEN_JSON_DEPTH levels) sets err once to -EINVAL
 * or FEN_ELIMIT; then nothing more is written. */
typedef struct fen_json_writer {
    fen_buf *b;
    int err;
    int depth;
    uint64_t objects; /* bit d-1: level d is an object */
    uint64_t filled;  /* bit d-1: level d has a member already */
    bool keyed;       /* a key waits for its value */
    bool done;        /* the top value is complete */
} fen_json_writer;

/* A writer that appends one value behind what b holds; b must outlive it. */
FEN_API fen_json_writer fen_json_writer_on(fen_buf *b);

/* Begins an object, as the next value, and ends the innermost container, which must be an object
 * without a key that waits for its value. */
FEN_API void fen_json_put_object(fen_json_writer *w);
FEN_API void fen_json_put_object_end(fen_json_writer *w);

/* The same for an array. */
FEN_API void fen_json_put_array(fen_json_writer *w);
FEN_API void fen_json_put_array_end(fen_json_writer *w);

/* The key of the next value, copied and escaped. Only directly inside an object. Nobody looks for
 * keys that come twice: that is up to the caller. */
FEN_API void fen_json_put_key(fen_json_writer *w, fen_slice key);

/* One value: as the top value, as an item of an array or behind a key. Text and errors of the
 * buffer as in fen_json_value_*. */
FEN_API void fen_json_put_i64(fen_json_writer *w, int64_t v);
FEN_API void fen_json_put_f64(fen_json_writer *w, double v);
FEN_API void fen_json_put_bool(fen_json_writer *w, bool v);
FEN_API void fen_json_put_null(fen_json_writer *w);
FEN_API void fen_json_put_string(fen_json_writer *w, fen_slice v);

/* 0 when exactly one whole value was written, else the writer's or the buffer's error, or -EINVAL
 * when something is still open. */
FEN_API int fen_json_writer_end(const fen_json_writer *w) FEN_MUST_CHECK;

/* ---- the reader: RFC 8259, strictly, one value after the other ---- */

enum fen_json_type {
    FEN_JSON_NONE, /* no value here: see the reader's err, or the end */
    FEN_JSON_NULL,
    FEN_JSON_BOOL,
    FEN_JSON_NUMBER,
    FEN_JSON_STRING,
    FEN_JSON_ARRAY,
    FEN_JSON_OBJECT
};

/* The first error sticks: every later call returns it. at and text tell where and what. Duplicate
 * keys are handed out as they come: whoever reads decides (FEN_JSON_STRUCT refuses them). */
typedef struct fen_json_reader {
    const char *p, *end, *start;
    fen_arena *arena; /* for strings with escapes */
    int err;          /* 0, FEN_EPARSE, -EINVAL (other type), -ERANGE, FEN_ELIMIT, -ENOMEM */
    int depth;
    uint64_t objects, filled; /* as in the writer */
    bool top;                 /* the top value has begun */
    size_t at;                /* of the error: bytes from the start */
    const char *text;         /* of the error: one line, static */
} fen_json_reader;

/* A reader over in, which it borrows; in must begin with the value or white space (no BOM). Strings
 * that have escapes are decoded into a, which may be NULL only if the caller reads no strings and
 * no keys. Both must outlive what is read. */
FEN_API fen_json_reader fen_json_reader_on(fen_slice in, fen_arena *a);

/* The type of the value that comes next; consumes nothing but white space. */
FEN_API enum fen_json_type fen_json_peek(fen_json_reader *r);

/* Each takes one value: 0 or the error. A value of another type is -EINVAL. Numbers for i64 have no
 * fraction and no exponent; f64 beyond the doubles is -ERANGE. A string without escapes lies in the
 * input, otherwise in the arena; it is valid UTF-8 and may contain NUL (\u0000). */
FEN_API int fen_json_get_i64(fen_json_reader *r, int64_t *ret_v) FEN_MUST_CHECK;
FEN_API int fen_json_get_f64(fen_json_reader *r, double *ret_v) FEN_MUST_CHECK;
FEN_API int fen_json_get_bool(fen_json_reader *r, bool *ret_v) FEN_MUST_CHECK;
FEN_API int fen_json_get_null(fen_json_reader *r) FEN_MUST_CHECK;
FEN_API int fen_json_get_string(fen_json_reader *r, fen_slice *ret_v) FEN_MUST_CHECK;

/* Enter a container: then call next until it is 0 and take one value after each 1. */
FEN_API int fen_json_get_object(fen_json_reader *r) FEN_MUST_CHECK;
FEN_API int fen_json_get_array(fen_json_reader *r) FEN_MUST_CHECK;

/* To the next member: 1, with its key in *ret_key (where it lies: as with get_string), whose value
 * must be taken before the next call; 0 at the end, and the container is left; or the error, with
 * -EINVAL when the innermost container is of the other kind. */
FEN_API int fen_json_next_key(fen_json_reader *r, fen_slice *ret_key) FEN_MUST_CHECK;
FEN_API int fen_json_next_item(fen_json_reader *r) FEN_MUST_CHECK;

/* Takes any value, checked whole, and forgets it: 0 or the error. Takes no memory. */
FEN_API int fen_json_skip(fen_json_reader *r) FEN_MUST_CHECK;

/* 0 when nothing but white space is left behind one whole value, else the reader's error or
 * FEN_EPARSE. */
FEN_API int fen_json_reader_end(fen_json_reader *r) FEN_MUST_CHECK;

/* ---- structs ---- */

/* FEN_JSON_STRUCT(order, ORDER_FIELDS) makes, for struct order and
 *
 *   #define ORDER_FIELDS(F) F(i64, id, required) F(f64, price, required) F(bool, paid, optional) \
 *                           F(chars, note, optional) F(slice, customer, required)
 *
 *   static void order_json_encode(fen_buf *b, const void *order);
 *   static int order_json_decode(fen_slice in, fen_arena *a, struct order *ret,
 *                                char *err, size_t err_bytes);
 *
 * Kinds: i64 (int64_t), f64 (double), bool, chars (char name[N], NUL-terminated), slice (fen_slice;
 * decoded it points into in or a). Keys are the member names: nothing is looked up at run time, and
 * a member of another type does not compile. At most 64 fields.
 *
 * The encoder writes all fields in order, but leaves out an optional slice with p == NULL.
 * The decoder reads one object and nothing behind it. Unknown keys are ignored. An optional field
 * that is absent or null is zero. Returns 0; FEN_EPARSE not JSON; -EINVAL a required field is
 * missing, a field comes twice or has another type; -ERANGE a number or a chars text does not fit;
 * FEN_ELIMIT too deep; -ENOMEM. err (if err_bytes > 0) receives one line that names the field or
 * the offset, "" on success; *ret is unspecified after a failure. */
#define FEN_JSON_STRUCT(name, FIELDS)                                                              \
    __attribute__((unused)) static void name##_json_encode(fen_buf *b_, const void *obj_)          \
    {                                                                                              \
        const struct name *o_ = (const struct name *)obj_;                                         \
        bool more_ = false;                                                                        \
        fen_buf_put_char(b_, '{');                                                                 \
        FIELDS(FEN__JSON_ENCODE)                                                                   \
        fen_buf_put_char(b_, '}');                                                                 \
    }                                                                                              \
    __attribute__((unused)) static int name##_json_decode(                                         \
        fen_slice in_, fen_arena *a_, struct name *o_, char *err_, size_t err_bytes_)              \
    {                                                                                              \
        enum { FIELDS(FEN__JSON_AT) fen__json_fields };                                            \
        static const struct fen_json_field fields_[] = {FIELDS(FEN__JSON_FIELD)};                  \
        typedef char fen__json_too_many_fields[fen__json_fields <= 64 ? 1 : -1]                    \
            __attribute__((unused));                                                               \
        fen_json_reader r_ = fen_json_reader_on(in_, a_);                                          \
        fen_slice key_;                                                                            \
        uint64_t seen_ = 0;                                                                        \
        int at_ = -1;                                                                              \
        memset(o_, 0, sizeof *o_);                                                                 \
        if (fen_json_get_object(&r_) == 0) {                                                       \
            while (fen_json_next_key(&r_, &key_) == 1) {                                           \
                FIELDS(FEN__JSON_DECODE) { (void)!fen_json_skip(&r_); }                            \
                if (r_.err)                                                                        \
                    break;                                                                         \
                at_ = -1;                                                                          \
            }                                                                                      \
        }                                                                                          \
        return fen_json_struct_end(&r_, fields_, fen__json_fields, seen_, at_, err_, err_bytes_);  \
    }

/* What follows serves the macro and is not meant to be called by hand. */
struct fen_json_field {
    const char *name;
    bool required;
};

/* Ends a decoder: the checks that remain, and the line for err. seen has bit i set when field i
 * came; at is the field being read, or -1. */
FEN_API int fen_json_struct_end(fen_json_reader *r, const struct fen_json_field *fields, int n,
                                uint64_t seen, int at, char *err, size_t err_bytes);

/* True when the value of field at is to be read; false after an error or an optional null. */
FEN_API bool fen_json_field_begin(fen_json_reader *r, uint64_t *seen, int at, bool required);

/* A string into cap bytes, NUL included: -ERANGE when it does not fit, -EINVAL when it has a
 * NUL. */
FEN_API int fen_json_get_chars(fen_json_reader *r, char *ret, size_t cap);

/* lit is ,"key": and the comma is dropped for the first member. */
static inline void fen__json_key(fen_buf *b, const char *lit, size_t n, bool *more)
{
    fen_buf_put(b, lit + !*more, n - !*more);
    *more = true;
}
static inline void fen__json_put_i64(fen_buf *b, const int64_t *v) { fen_json_value_i64(b, *v); }
static inline void fen__json_put_f64(fen_buf *b, const double *v) { fen_json_value_f64(b, *v); }
static inline void fen__json_put_flag(fen_buf *b, const bool *v) { fen_json_value_bool(b, *v); }
static inline void fen__json_put_slice(fen_buf *b, const fen_slice *v)
{
    fen_json_value_string(b, *v);
}
static inline void fen__json_put_chars(fen_buf *b, const char *p, size_t cap)
{
    fen_slice s;
    const char *nul = (const char *)memchr(p, 0, cap);
    s.n = nul ? (size_t)(nul - p) : cap;
    s.p = p;
    fen_json_value_string(b, s);
}

/* The kinds are only pasted, never expanded: bool is a macro in C17. */
#define FEN__JSON_PUT_i64(field) fen__json_put_i64(b_, &o_->field)
#define FEN__JSON_PUT_f64(field) fen__json_put_f64(b_, &o_->field)
#define FEN__JSON_PUT_bool(field) fen__json_put_flag(b_, &o_->field)
#define FEN__JSON_PUT_slice(field) fen__json_put_slice(b_, &o_->field)
#define FEN__JSON_PUT_chars(field) fen__json_put_chars(b_, o_->field, sizeof o_->field)
#define FEN__JSON_GET_i64(field) (void)!fen_json_get_i64(&r_, &o_->field)
#define FEN__JSON_GET_f64(field) (void)!fen_json_get_f64(&r_, &o_->field)
#define FEN__JSON_GET_bool(field) (void)!fen_json_get_bool(&r_, &o_->field)
#define FEN__JSON_GET_slice(field) (void)!fen_json_get_string(&r_, &o_->field)
#define FEN__JSON_GET_chars(field) (void)!fen_json_get_chars(&r_, o_->field, sizeof o_->field)
#define FEN__JSON_HAS_i64(field) true
#define FEN__JSON_HAS_f64(field) true
#define FEN__JSON_HAS_bool(field) true
#define FEN__JSON_HAS_chars(field) true
#define FEN__JSON_HAS_slice(field) (o_->field.p != NULL)
#define FEN__JSON_NEED_required 1
#define FEN__JSON_NEED_optional 0

#define FEN__JSON_AT(kind, field, need) fen__json_at_##field,
#define FEN__JSON_FIELD(kind, field, need) {#field, FEN__JSON_NEED_##need},
#define FEN__JSON_ENCODE(kind, field, need)                                                        \
    if (FEN__JSON_NEED_##need || FEN__JSON_HAS_##kind(field)) {                                    \
        fen__json_key(b_, ",\"" #field "\":", sizeof(",\"" #field "\":") - 1, &more_);             \
        FEN__JSON_PUT_##kind(field);                                                               \
    }
#define FEN__JSON_DECODE(kind, field, need)                                                        \
    if (key_.n == sizeof(#field) - 1 && !memcmp(key_.p, #field, sizeof(#field) - 1)) {             \
        at_ = fen__json_at_##field;                                                                \
        if (fen_json_field_begin(&r_, &seen_, at_, FEN__JSON_NEED_##need))                         \
            FEN__JSON_GET_##kind(field);                                                           \
    } else

#ifdef __cplusplus
}
#endif
#endif
