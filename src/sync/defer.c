/* defer.c - clean-ups that need more than the caller's 24 bytes.
 *
 * Dynamic ones: a node is a record, the function and a copy of the argument, in one of five sizes.
 * Free nodes lie in lists of the M (any code of a fiber may take one, the P is not touched); a list
 * that is empty or too long trades a batch of nodes with a central one, under its lock. Nodes are
 * cut from blocks kept until the run ends. A node's class is told by its record's function.
 * Invariant: a free node's bytes are zero; a node is linked into one list or one scope.
 *
 * Groups and batches are one record for many. The scope's close unlinks a record before it runs it;
 * these link theirs again until all of it has run, and count down before each call: an abort inside
 * finds what is left where it would find any other record.
 *
 * Rejected: nodes of the fiber (a fiber that ends would have to give them back one by one); the
 * general allocator for each (a lock or a cache look-up more, and nothing zeroed). */
#include "sync/sync_int.h"

#include "mem/mem.h"

#include <fen/defer.h>

#include <string.h>

#define BATCH 64u
#define PER_BLOCK (6 * BATCH)

struct node {
    fen_defer_record
        record; /* free: next is the next free node; arg, of a batch's first: batches */
    void (*fn)(void *copy);
    char bytes[] FEN__ALIGN(16);
};

struct block {
    struct block *next;
    size_t bytes;
    char nodes[] FEN__ALIGN(16);
};

static struct {
    uint32_t lock;
    struct node *batches[FEN__SPARE_KINDS];
    struct block *blocks;
    int64_t n_blocks; /* atomic: read without the lock */
} central;

static size_t node_bytes(int kind) { return sizeof(struct node) + ((size_t)16 << kind >> 1); }

/* ---- free nodes ---- */

/* A block's nodes as batches; lock held. False: no memory. */
static bool more(int kind)
{
    size_t each = (node_bytes(kind) + 15) & ~(size_t)15;
    size_t bytes = sizeof(struct block) + PER_BLOCK * each;
    struct block *b = fen__mem_calloc_for(0, bytes); /* all fibers' in turn */
    if (!b)
        return false;
    b->bytes = bytes;
    b->next = central.blocks;
    central.blocks = b;
    __atomic_store_n(&central.n_blocks, central.n_blocks + 1, __ATOMIC_RELAXED);
    for (uint32_t i = PER_BLOCK; i-- > 0;) {
        struct node *n = (struct node *)(void *)(b->nodes + i * each);
        bool last = i % BATCH == BATCH - 1;
        n->record.next = last ? NULL : (fen_defer_record *)(void *)((char *)n + each);
        if (i % BATCH == 0) {
            n->record.arg = central.batches[kind];
            central.batches[kind] = n;
        }
    }
    return true;
}

FEN__NOINLINE static bool refill(struct fen__spares *s, int kind)
{
    fen__lock(&central.lock);
    bool got = central.batches[kind] || more(kind);
    if (got) {
        struct node *first = central.batches[kind];
        central.batches[kind] = first->record.arg;
        first->record.arg = NULL;
        s->head[kind] = first;
        s->n[kind] = BATCH;
    }
    fen__unlock(&central.lock);
    return got;
}

/* The newest batch of a list goes to everybody. */
FEN__NOINLINE static void spill(struct fen__spares *s, int kind)
{
    struct node *first = s->head[kind], *last = first;
    for (uint32_t i = 1; i < BATCH; i++)
        last = (struct node *)(void *)last->record.next;
    s->head[kind] = last->record.next;
    s->n[kind] -= BATCH;
    last->record.next = NULL;
    fen__lock(&central.lock);
    first->record.arg = central.batches[kind];
    central.batches[kind] = first;
    fen__unlock(&central.lock);
}

/* Runs a node and puts it back. The fiber may be on another M afterwards. */
static inline void finish(struct node *n, int kind)
{
    n->fn(n->bytes);
    memset(n, 0, node_bytes(kind)); /* nothing of it is left for the next user */
    struct fen__spares *s = fen__spares_of(fen__self());
    n->record.next = s->head[kind];
    s->head[kind] = n;
    if (FEN__UNLIKELY(++s->n[kind] >= 2 * BATCH))
        spill(s, kind);
}

static void run_8(void *node) { finish(node, 0); }
static void run_16(void *node) { finish(node, 1); }
static void run_32(void *node) { finish(node, 2); }
static void run_64(void *node) { finish(node, 3); }
static void run_128(void *node) { finish(node, 4); }
static void (*const runners[FEN__SPARE_KINDS])(void *) = {run_8, run_16, run_32, run_64, run_128};

int fen_defer_dyn(fen_scope *s, void (*fn)(void *copy), const void *arg, size_t bytes)
{
    struct fen__m *m = fen__self();
    fen_promise(m && s->owner == fen__cur(m) && fn,
                "fen_defer_dyn by another than the scope's owner, or without a function");
    if (bytes > FEN_DEFER_BYTES_MAX)
        return FEN_ELIMIT;
    int kind = bytes <= 8 ? 0 : 29 - __builtin_clz((unsigned)bytes - 1);
    struct fen__spares *spares = fen__spares_of(m);
    if (FEN__UNLIKELY(!spares->head[kind]) && !refill(spares, kind))
        return -ENOMEM;
    struct node *n = spares->head[kind];
    spares->head[kind] = n->record.next;
    spares->n[kind]--;
    n->fn = fn;
    if (bytes)
        memcpy(n->bytes, arg, bytes);
    n->record = (fen_defer_record){runners[kind], n, s->face.defers};
    s->face.defers = &n->record;
    return 0;
}

int64_t fen_defer_blocks(void) { return __atomic_load_n(&central.n_blocks, __ATOMIC_RELAXED); }

void fen__defer_pool_fini(void)
{
    while (central.blocks) {
        struct block *b = central.blocks;
        central.blocks = b->next;
        fen__mem_free(b, b->bytes);
    }
    memset(central.batches, 0, sizeof central.batches);
    __atomic_store_n(&central.n_blocks, 0, __ATOMIC_RELAXED);
}

/* ---- taking back ---- */

static bool take_back(struct fen_scope *s, fen_defer_record *r)
{
    for (fen_defer_record **at = &s->face.defers; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            return true;
        }
    return false;
}

bool fen_undefer(fen_scope *s, fen_defer_record *r)
{
    struct fen__m *m = fen__self();
    fen_promise(m && s->owner == fen__cur(m), "fen_undefer by another than the scope's owner");
    return take_back(s, r);
}

/* False: it is linked, since not the scope's close runs it. */
static bool link_again(struct fen_scope *s, fen_defer_record *r)
{
    bool unlinked = s->face.defers == r->next;
    if (unlinked)
        s->face.defers = r;
    return unlinked;
}

/* ---- group ---- */

void fen_defer_group_end(void *group)
{
    fen_defer_group *d = group;
    bool again = link_again(d->scope, &d->record);
    int rc = fen_defer_group_run(d);
    if (again)
        (void)take_back(d->scope, &d->record);
    if (d->ret_rc)
        *d->ret_rc = rc;
}

static size_t more_bytes(const fen_defer_group *d)
{
    return (d->cap - FEN_DEFER_GROUP_INLINE) * sizeof *d->more;
}

void fen_defer_group_shrink(fen_defer_group *d)
{
    fen_promise(d->n == 0, "fen_defer_group_shrink of a group that is not empty");
    fen__mem_free(d->more, more_bytes(d));
    d->more = NULL;
    d->cap = FEN_DEFER_GROUP_INLINE;
}

int fen_defer_group_grow(fen_defer_group *d)
{
    size_t had = more_bytes(d);
    uint32_t cap = 2 * d->cap;
    if (cap < d->cap)
        return -ENOMEM;
    size_t bytes = (cap - FEN_DEFER_GROUP_INLINE) * sizeof *d->more;
    fen_defer_item *p = d->more ? fen__mem_resize(d->more, had, bytes) : fen__mem_alloc(bytes);
    if (!p)
        return -ENOMEM;
    d->more = p;
    d->cap = cap;
    return 0;
}

/* ---- batch ---- */

static void batch_end(void *arg)
{
    fen_defer_batch *b = arg;
    void (*fn)(void *) = b->fn;
    void *const *items = b->items;
    bool again = link_again(b->scope, &b->record);
    while (b->n)
        fn(items[--b->n]);
    if (again)
        (void)take_back(b->scope, &b->record);
}

void fen_defer_many(fen_scope *s, fen_defer_batch *b, void (*fn)(void *item), void *const *items,
                    size_t n)
{
    b->fn = fn;
    b->scope = s;
    b->items = items;
    b->n = n;
    fen_defer(s, &b->record, batch_end, b);
}

/* ---- ending the process ---- */

void fen_abort(const char *what, const char *file, int line)
{
    struct fen__m *m = fen__enter_any(); /* NULL: a thread, a blocking section, the runtime */
    if (m) {
        struct fen__g *g = fen__cur(m);
        fen__leave(m);
        for (struct fen_scope *s = g->scope; s && s->owner == g; s = s->parent_of_owner)
            fen__scope_run_defers(s);
    }
    fen__panic(what, file, line);
}
