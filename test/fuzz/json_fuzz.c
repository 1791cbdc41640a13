/* json_fuzz.c - whatever the reader takes, written again, reads back the same; a struct decoder
 * agrees with the reader about what is JSON. */
#include <fen/json.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct thing {
    int64_t id;
    double price;
    bool paid;
    char note[16];
    fen_slice name;
};
#define THING_FIELDS(F)                                                                            \
    F(i64, id, optional)                                                                           \
    F(f64, price, optional)                                                                        \
    F(bool, paid, optional)                                                                        \
    F(chars, note, optional)                                                                       \
    F(slice, name, optional)
FEN_JSON_STRUCT(thing, THING_FIELDS)

/* Copies one value from reader to writer; containers are entered, so depth is bounded by both. */
static int copy_scalar(fen_json_reader *r, fen_json_writer *w)
{
    fen_slice s;
    double d;
    bool flag;
    int rc;
    switch (fen_json_peek(r)) {
    case FEN_JSON_NUMBER:
        if ((rc = fen_json_get_f64(r, &d)) == 0)
            fen_json_put_f64(w, d);
        return rc;
    case FEN_JSON_STRING:
        if ((rc = fen_json_get_string(r, &s)) == 0)
            fen_json_put_string(w, s);
        return rc;
    case FEN_JSON_BOOL:
        if ((rc = fen_json_get_bool(r, &flag)) == 0)
            fen_json_put_bool(w, flag);
        return rc;
    case FEN_JSON_OBJECT: fen_json_put_object(w); return fen_json_get_object(r);
    case FEN_JSON_ARRAY: fen_json_put_array(w); return fen_json_get_array(r);
    default:
        if ((rc = fen_json_get_null(r)) == 0)
            fen_json_put_null(w);
        return rc;
    }
}

static int copy(fen_slice in, fen_arena *a, fen_buf *out)
{
    fen_json_reader r = fen_json_reader_on(in, a);
    fen_json_writer w = fen_json_writer_on(out);
    fen_slice key;
    int rc = copy_scalar(&r, &w);
    while (rc >= 0 && r.depth) {
        if (r.objects >> (r.depth - 1) & 1) {
            rc = fen_json_next_key(&r, &key);
            if (rc == 1)
                fen_json_put_key(&w, key);
            else if (rc == 0)
                fen_json_put_object_end(&w);
        } else {
            rc = fen_json_next_item(&r);
            if (rc == 0)
                fen_json_put_array_end(&w);
        }
        if (rc == 1)
            rc = copy_scalar(&r, &w);
    }
    rc = rc < 0 ? rc : fen_json_reader_end(&r);
    fen_assert(rc < 0 || fen_json_writer_end(&w) == 0);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fen_arena *a = fen_arena_new();
    if (!a)
        return 0;
    fen_slice in = {(const char *)data, size};
    fen_buf once = fen_buf_arena(a), twice = fen_buf_arena(a);
    int rc = copy(in, a, &once);
    if (rc == 0) {
        fen_assert(copy((fen_slice){once.p, once.n}, a, &twice) == 0);
        fen_assert(once.n == twice.n && memcmp(once.p, twice.p, once.n) == 0);
    }
    struct thing t;
    char err[64];
    fen_json_reader r = fen_json_reader_on(in, a);
    int plain = fen_json_skip(&r);
    plain = plain < 0 ? plain : fen_json_reader_end(&r);
    fen_assert(rc != 0 || plain == 0);
    int decoded = thing_json_decode(in, a, &t, err, sizeof err);
    fen_assert(decoded != 0 || plain == 0);
    if (decoded == 0) {
        fen_buf b = fen_buf_arena(a);
        thing_json_encode(&b, &t);
        fen_assert(thing_json_decode((fen_slice){b.p, b.n}, a, &t, err, sizeof err) == 0);
    }
    fen_arena_free(a);
    return 0;
}
