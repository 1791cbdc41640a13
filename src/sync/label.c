/* label.c - labels of fibers: sets that do not change, shared by parent and children.
 *
 * A set is "key\0value\0" one after another in one block with a count of its users. Setting a label
 * makes a new set and drops the old one; a child takes one more share of its parent's, which costs
 * an addition and no memory.
 *
 * Dumps and profiles read the sets of fibers that run meanwhile. Blocks are never unmapped, the
 * words of the text are written and read atomically, and a block's version is odd while it is
 * written and another one afterwards: a reader that finds the version, or the fiber's set, changed
 * has read nothing (a sequence lock). In a signal handler on the fiber's own thread the set is
 * whole too: it is published after it is written and dropped after it is withdrawn. */
#include "sync/sync_int.h"

#include "mem/pool.h"

#include <string.h>

#define WORDS (FEN_LABELS_BYTES / 8)
#define TRIES 8

struct labels {
    _Atomic uint32_t version, users;
    uint32_t bytes;
    struct labels *next_free;
    uint64_t text[WORDS]; /* others read it: __atomic calls */
};

static struct fen__pool pool = FEN__POOL(struct labels, next_free, 32, NULL);

static struct fen__g *current(void)
{
    struct fen__m *m = fen__self();
    return m ? fen__cur(m) : NULL;
}

/* ---- memory ---- */

void *fen__labels_share(void *labels)
{
    struct labels *l = labels;
    if (l)
        atomic_fetch_add_explicit(&l->users, 1, memory_order_relaxed);
    return l;
}

void fen__labels_drop(void *labels)
{
    struct labels *l = labels;
    /* acq_rel: the last user's reads come before the block is written again */
    if (!l || atomic_fetch_sub_explicit(&l->users, 1, memory_order_acq_rel) != 1)
        return;
    fen__pool_put(&pool, l);
}

/* A new set with that text, NULL: no memory. */
static struct labels *make(const uint64_t text[WORDS], uint32_t bytes)
{
    struct labels *l = fen__pool_get(&pool);
    if (!l)
        return NULL;
    uint32_t v = atomic_load_explicit(&l->version, memory_order_relaxed);
    atomic_store_explicit(&l->version, v + 1, memory_order_relaxed);
    /* release: who sees a new word sees the odd version; pairs with the acquires in read_once */
    __atomic_store_n(&l->bytes, bytes, __ATOMIC_RELEASE);
    for (int i = 0; i < WORDS; i++)
        __atomic_store_n(&l->text[i], text[i], __ATOMIC_RELEASE);
    atomic_store_explicit(&l->version, v + 2, memory_order_release); /* pairs likewise */
    atomic_store_explicit(&l->users, 1, memory_order_relaxed);
    return l;
}

/* ---- reading ---- */

static bool read_once(struct fen__g *g, uint64_t text[WORDS], size_t *ret_bytes)
{
    struct labels *l = __atomic_load_n((struct labels **)&g->labels, __ATOMIC_ACQUIRE);
    *ret_bytes = 0;
    if (!l)
        return true;
    uint32_t v = atomic_load_explicit(&l->version, memory_order_acquire); /* pairs with make */
    *ret_bytes = __atomic_load_n(&l->bytes, __ATOMIC_ACQUIRE);
    for (int i = 0; i < WORDS; i++)
        text[i] = __atomic_load_n(&l->text[i], __ATOMIC_ACQUIRE);
    return !(v & 1) && atomic_load_explicit(&l->version, memory_order_relaxed) == v &&
           __atomic_load_n((struct labels **)&g->labels, __ATOMIC_RELAXED) == l;
}

size_t fen__labels_read(struct fen__g *g, char ret[FEN_LABELS_BYTES])
{
    uint64_t text[WORDS];
    size_t bytes = 0;
    for (int i = 0; i < TRIES; i++)
        if (read_once(g, text, &bytes)) {
            memcpy(ret, text, bytes);
            return bytes;
        }
    return 0;
}

/* The pair at *at, and past it. False: the end. */
static bool next_pair(const struct labels *l, uint32_t *at, fen_slice *ret_key,
                      fen_slice *ret_value)
{
    if (!l || *at >= l->bytes)
        return false;
    const char *text = (const char *)l->text + *at;
    *ret_key = (fen_slice){text, strlen(text)};
    text += ret_key->n + 1;
    *ret_value = (fen_slice){text, strlen(text)};
    *at += (uint32_t)(ret_key->n + ret_value->n + 2);
    return true;
}

static bool same(fen_slice a, const char *b) { return a.n == strlen(b) && !memcmp(a.p, b, a.n); }

int fen_label_at(int i, fen_slice *ret_key, fen_slice *ret_value)
{
    const struct fen__g *g = current();
    fen_slice key, value;
    for (uint32_t at = 0; g && i >= 0 && next_pair(g->labels, &at, &key, &value); i--)
        if (i == 0) {
            *ret_key = key;
            *ret_value = value;
            return 0;
        }
    return -ENOENT;
}

int fen_label_get(const char *key, fen_slice *ret_value)
{
    if (!key)
        return -EINVAL;
    const struct fen__g *g = current();
    fen_slice k, value;
    for (uint32_t at = 0; g && next_pair(g->labels, &at, &k, &value);)
        if (same(k, key)) {
            *ret_value = value;
            return 0;
        }
    return -ENOENT;
}

/* ---- setting ---- */

static bool key_ok(const char *key)
{
    size_t n = 0;
    for (; key[n]; n++) {
        char c = key[n];
        bool letter = c >= 'a' && c <= 'z';
        if (n == FEN_LABEL_KEY_MAX ||
            !(letter || (n && ((c >= '0' && c <= '9') || c == '_' || c == '.'))))
            return false;
    }
    return n > 0;
}

static bool value_ok(fen_slice v)
{
    for (size_t i = 0; i < v.n; i++)
        if ((unsigned char)v.p[i] < 0x20 || v.p[i] == 0x7f)
            return false;
    return v.n <= FEN_LABEL_VALUE_MAX;
}

static uint32_t put(char *text, uint32_t at, fen_slice s)
{
    memcpy(text + at, s.p, s.n);
    return at + (uint32_t)s.n + 1; /* the byte after it is 0 already */
}

/* The old pairs but that of key, then the new one; its bytes, or FEN_ELIMIT. */
static int compose(const struct labels *old, const char *key, fen_slice value, char *text)
{
    uint32_t from = 0, to = 0, n = 0;
    fen_slice k, v;
    while (next_pair(old, &from, &k, &v))
        if (!same(k, key)) {
            to = put(text, put(text, to, k), v);
            n++;
        }
    if (!value.p)
        return (int)to;
    size_t more = strlen(key) + value.n + 2;
    if (n == FEN_LABELS_MAX || to + more > FEN_LABELS_BYTES)
        return FEN_ELIMIT;
    return (int)put(text, put(text, to, (fen_slice){key, strlen(key)}), value);
}

int fen_label_set(const char *key, fen_slice value)
{
    struct fen__g *g = current();
    if (!g)
        return FEN_ENOTFIBER;
    if (!key || !key_ok(key) || !value_ok(value))
        return -EINVAL;
    uint64_t text[WORDS] = {0};
    struct labels *old = g->labels, *made = NULL;
    int bytes = compose(old, key, value, (char *)text);
    if (bytes < 0)
        return bytes;
    if (bytes > 0 && !(made = make(text, (uint32_t)bytes)))
        return -ENOMEM;
    __atomic_store_n((struct labels **)&g->labels, made, __ATOMIC_RELEASE);
    fen__labels_drop(old);
    return 0;
}
