/* local.c - fiber-local values: a key is an index into an array that hangs on the fiber.
 *
 * A slot remembers the generation of the key that set it, so a key that was ended and whose index
 * was given out again finds nothing old. Only the fiber touches its array; the table of keys has a
 * lock, and its generations are read without it (a key that somebody ends while another uses it is
 * seen by the next call). Odd generations live.
 *
 * Rejected: inheritance (who destroys a value that two fibers hold?); a hash of keys (an array of
 * 128 is as small); places for values in every fiber (most have none). */
#include "sync/sync_int.h"

#include "mem/mem.h"

#include <string.h>

#define KEYS_MAX 128
#define FIRST_SLOTS 8
#define ROUNDS 4

struct slot {
    void *value;
    uint32_t generation;
};

struct locals {
    uint32_t n;
    struct slot slot[];
};

static struct {
    uint32_t lock;
    struct {
        uint32_t generation;
        void (*destroy)(void *value);
    } key[KEYS_MAX];
} table;

static struct fen__g *current(void)
{
    struct fen__m *m = fen__self();
    return m ? fen__cur(m) : NULL;
}

static size_t bytes_of(uint32_t n) { return sizeof(struct locals) + n * sizeof(struct slot); }

static bool lives(uint32_t index, uint32_t generation)
{
    return generation & 1 && index < KEYS_MAX &&
           __atomic_load_n(&table.key[index].generation, __ATOMIC_RELAXED) == generation;
}

/* ---- keys ---- */

int fen_local_key_new(void (*destroy)(void *value), fen_local_key *ret_key)
{
    int rc = FEN_ELIMIT;
    fen__lock(&table.lock);
    for (uint32_t i = 0; i < KEYS_MAX && rc; i++) {
        uint32_t generation = table.key[i].generation;
        if (generation & 1)
            continue;
        table.key[i].destroy = destroy;
        __atomic_store_n(&table.key[i].generation, generation + 1, __ATOMIC_RELAXED);
        *ret_key = (fen_local_key){i, generation + 1};
        rc = 0;
    }
    fen__unlock(&table.lock);
    return rc;
}

void fen_local_key_free(fen_local_key key)
{
    fen__lock(&table.lock);
    if (lives(key.index, key.generation))
        __atomic_store_n(&table.key[key.index].generation, key.generation + 1, __ATOMIC_RELAXED);
    fen__unlock(&table.lock);
}

/* ---- values ---- */

/* Room for slot index. NULL: no memory, nothing changed. */
static struct locals *reserve(struct fen__g *g, uint32_t index)
{
    struct locals *old = g->locals;
    uint32_t had = old ? old->n : 0, n = had ? had : FIRST_SLOTS;
    if (index < had)
        return old;
    while (n <= index)
        n *= 2;
    struct locals *l = fen__mem_resize(old, old ? bytes_of(had) : 0, bytes_of(n));
    if (!l)
        return NULL;
    memset(&l->slot[had], 0, (n - had) * sizeof l->slot[0]);
    l->n = n;
    g->locals = l;
    return l;
}

int fen_local_set(fen_local_key key, void *value)
{
    struct fen__g *g = current();
    if (!g)
        return FEN_ENOTFIBER;
    if (!lives(key.index, key.generation))
        return -EINVAL;
    struct locals *l = reserve(g, key.index);
    if (!l)
        return -ENOMEM;
    l->slot[key.index] = (struct slot){value, key.generation};
    return 0;
}

void *fen_local_get(fen_local_key key)
{
    const struct fen__g *g = current();
    const struct locals *l = g ? g->locals : NULL;
    if (!l || key.index >= l->n || l->slot[key.index].generation != key.generation)
        return NULL;
    return lives(key.index, key.generation) ? l->slot[key.index].value : NULL;
}

/* ---- the fiber's end ---- */

static void (*destructor(uint32_t index, uint32_t generation))(void *)
{
    fen__lock(&table.lock);
    void (*fn)(void *) = lives(index, generation) ? table.key[index].destroy : NULL;
    fen__unlock(&table.lock);
    return fn;
}

/* True if a destructor was called; it may have set values. */
static bool destroy_round(struct fen__g *g)
{
    bool called = false;
    for (uint32_t i = 0; i < ((struct locals *)g->locals)->n; i++) {
        struct slot *s = &((struct locals *)g->locals)->slot[i]; /* a destructor may move them */
        void *value = s->value;
        void (*fn)(void *) = value ? destructor(i, s->generation) : NULL;
        s->value = NULL;
        if (fn) {
            fn(value);
            called = true;
        }
    }
    return called;
}

void fen__locals_end(struct fen__g *g)
{
    if (g->locals) {
        fen__mask(1);
        for (int i = 0; i < ROUNDS && destroy_round(g); i++)
            ;
        fen__mask(-1);
        struct locals *l = g->locals;
        g->locals = NULL;
        fen__mem_free(l, bytes_of(l->n));
    }
    void *labels = g->labels;
    __atomic_store_n(&g->labels, NULL, __ATOMIC_RELAXED);
    fen__labels_drop(labels);
}
