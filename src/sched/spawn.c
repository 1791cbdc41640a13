/* spawn.c - fibers: slab, caches, first frame, end.
 *
 * A fiber's object lives in a slab apart from its stack and is never unmapped within a run, so that
 * late wakers may always look at it. A finished fiber keeps its stack and goes to its M's cache
 * (FEN__G_CACHE), half of which overflows to a global list; a spawn takes from there in that order.
 * Stacks beyond KEEP_WARM in the global list give their pages back. */
#include "sched/see.h"

#include "mem/mem.h"

#include <string.h>

#define CHUNK_G 256
#define KEEP_WARM 16384 /* 64 MiB of stacks that used one page */
#define FIBERS_MAX (4u << 20)

static struct {
    uint32_t lock;
    struct fen__g *_Atomic chunk[FIBERS_MAX / CHUNK_G];
    _Atomic uint32_t n; /* fibers that exist in chunks */
    uint32_t used;      /* handed out at least once */
    struct fen__g *free;
    uint32_t nfree;
    _Atomic uint64_t number;
} slab;

void (*fen__attached_end)(struct fen__g *g);

static size_t chunk_bytes(void)
{
    size_t page = fen__sys_page_bytes();
    return (CHUNK_G * sizeof(struct fen__g) + page - 1) & ~(page - 1);
}

int fen__spawn_init(void)
{
    slab.number = 0;
    return 0;
}

void fen__spawn_fini(void)
{
    for (uint32_t i = 0; i < slab.used; i++) {
        struct fen__g *g = fen__g_at(i);
        if (g->stack.low && g->stack.slot == UINT32_MAX)
            fen__stack_free(&g->stack);
    }
    for (uint32_t i = 0; i < slab.n / CHUNK_G; i++) {
        fen__sys_unmap(slab.chunk[i], chunk_bytes());
        slab.chunk[i] = NULL;
    }
    slab.n = slab.used = slab.nfree = 0;
    slab.free = NULL;
}

struct fen__g *fen__g_at(uint32_t id)
{
    if (FEN__UNLIKELY(id & FEN__G_THREAD))
        return fen__outside_g(id);
    struct fen__g *c = atomic_load(&slab.chunk[id / CHUNK_G]); /* pairs with the store in fresh */
    return c + id % CHUNK_G;
}

/* Lock held. A fiber that was never used. */
static int fresh(struct fen__g **ret_g)
{
    if (slab.used >= fen__sched.max_fibers)
        return FEN_ELIMIT;
    if (slab.used == slab.n) {
        void *map;
        int rc = fen__sys_map(chunk_bytes(), &map);
        if (rc)
            return rc;
        atomic_store(&slab.chunk[slab.n / CHUNK_G], map); /* pairs with the load in fen__g_at */
        slab.n += CHUNK_G;
    }
    struct fen__g *g = fen__g_at(slab.used);
    g->id = slab.used++;
    g->timer.at = -1;
    *ret_g = g;
    return 0;
}

static int take(struct fen__m *m, struct fen__g **ret_g)
{
    if (FEN__LIKELY(m->gfree != NULL)) {
        *ret_g = m->gfree;
        m->gfree = m->gfree->next;
        m->ngfree--;
        if (m->gfree) { /* the next spawn's object and stack */
            fen__prefetch(m->gfree->next, 3 * FEN__LINE);
            /* no pointer arithmetic: one that got no stack has none to point to */
            fen__prefetch((void *)((uintptr_t)m->gfree->sp - 6 * FEN__LINE), 10 * FEN__LINE);
        }
        return 0;
    }
    fen__lock(&slab.lock);
    int rc = 0;
    if (slab.free) {
        *ret_g = slab.free;
        slab.free = slab.free->next;
        __atomic_store_n(&slab.nfree, slab.nfree - 1, __ATOMIC_RELAXED);
    } else {
        rc = fresh(ret_g);
    }
    fen__unlock(&slab.lock);
    return rc;
}

/* Half of a full cache goes to the global list. */
static void spill(struct fen__m *m)
{
    struct fen__g *head = m->gfree, *last = head;
    bool cold = __atomic_load_n(&slab.nfree, __ATOMIC_RELAXED) > KEEP_WARM;
    for (int i = 0;; i++) {
        if (cold && last->stack.low)
            fen__stack_release(&last->stack);
        if (i == FEN__G_CACHE / 2 - 1)
            break;
        last = last->next;
    }
    m->gfree = last->next;
    m->ngfree -= FEN__G_CACHE / 2;
    fen__lock(&slab.lock);
    last->next = slab.free;
    slab.free = head;
    __atomic_store_n(&slab.nfree, slab.nfree + FEN__G_CACHE / 2, __ATOMIC_RELAXED);
    fen__unlock(&slab.lock);
}

static void drop(struct fen__m *m, struct fen__g *g)
{
    g->next = m->gfree;
    m->gfree = g;
    if (++m->ngfree > FEN__G_CACHE)
        spill(m);
}

/* Not on the fiber's stack; it will not run again. */
void fen__g_free(struct fen__m *m, struct fen__g *g)
{
    fen__annot_end(&g->annot);
    if (FEN__UNLIKELY(g->painted))
        fen__see_ended(g);
    if (g->stack.slot == UINT32_MAX) {
        fen__stack_free(&g->stack);
        g->stack.low = NULL;
    }
    g->live = 0;
    __atomic_store_n(&g->limit, NULL, __ATOMIC_RELAXED);
    g->scope = NULL;
    fen__count_add(&m->tally.exits, 1);
    drop(m, g);
}

/* First frame of every fiber. */
static void fiber_main(void *arg)
{
    struct fen__g *g = arg;
    fen__arrive(&g->annot);
    fen__leave(fen__self());
    g->fn(g->arg);
    fen_assert(fen__self()); /* NULL: a forked child, which may only exec */
    if (FEN__UNLIKELY(g->locals || g->labels))
        __atomic_load_n(&fen__attached_end, __ATOMIC_RELAXED)(g);
    g->live = FEN__ENDING;
    fen__count_add(&fen__self()->tally.ended, 1); /* before a joiner can look */
    if (g->end)
        g->end(g);
    struct fen__m *m = fen__enter();
    fen_assert(m && g->timer.at < 0);
    fen__swap(m, FEN__ACT_EXIT);
}

static void reset(struct fen__g *g, const struct fen__spawn *how)
{
    __atomic_store_n(&g->limit, how->limit, __ATOMIC_RELAXED);
    g->scope = how->scope;
    g->fn = how->fn;
    g->arg = how->arg;
    g->end = how->end;
    g->name = how->name;
    g->site = how->site;
    g->deep = g->painted = g->lent = false;
    g->number = atomic_fetch_add_explicit(&slab.number, 1, memory_order_relaxed) + 1;
    g->cpu_ticks = g->wait_ticks = 0;
    g->in_bytes = g->out_bytes = g->arena_bytes = g->arena_byte_ticks = 0;
    g->alloc_bytes = 0;
    __atomic_store_n(&g->reason, FEN__R_NONE, __ATOMIC_RELAXED);
    g->mask = g->convicted = 0;
    g->local = NULL;
    g->locals = NULL;
    __atomic_store_n(&g->labels, how->labels, __ATOMIC_RELAXED); /* dumps read it */
    g->limits_seen = 0;
    g->live = FEN__LIVE;
}

/* A fiber that is not in any queue yet. */
int fen__spawn_make(struct fen__m *m, const struct fen__spawn *how, struct fen__g **ret_g)
{
    struct fen__g *g;
    int rc = take(m, &g);
    if (rc)
        return rc;
    size_t bytes = how->stack_bytes ? how->stack_bytes : fen__sched.stack_bytes;
    if (g->stack.low && how->stack_bytes && how->stack_bytes > g->stack.bytes) {
        fen__stack_free(&g->stack);
        g->stack.low = NULL;
    }
    if (!g->stack.low && (rc = fen__stack_new(bytes, &g->stack))) {
        drop(m, g);
        return rc;
    }
    reset(g, how);
    g->account = m->cur ? m->cur->account : 0;
    char *top = fen__stack_top(&g->stack), *low = fen__stack_low(&g->stack);
    fen__annot_new(&g->annot, low, (size_t)(top - low));
    if (FEN__UNLIKELY(fen__see.paint)) {
        fen__stack_paint(&g->stack);
        g->painted = true;
    }
    g->sp = fen__context_init(top, fiber_main, g);
    __atomic_store_n(&g->parked_at, m->bill.last, __ATOMIC_RELAXED);
    fen__count_add(&m->tally.spawns, 1);
    *ret_g = g;
    return 0;
}

int fen__spawn(const struct fen__spawn *how, struct fen__g **ret_g)
{
    struct fen__m *m = fen__self();
    struct fen__g *g;
    int rc = fen__spawn_make(m, how, &g);
    if (rc)
        return rc;
    if (ret_g)
        *ret_g = g;
    fen__queue_next(m, g);
    fen__wake_p();
    return 0;
}

void fen__each_g(void (*fn)(struct fen__g *g, void *arg), void *arg)
{
    fen__lock(&slab.lock);
    uint32_t n = slab.used;
    fen__unlock(&slab.lock);
    for (uint32_t i = 0; i < n; i++)
        fn(fen__g_at(i), arg);
}

uint64_t fen__number_of(uint32_t id)
{
    struct fen__g *c =
        id < FIBERS_MAX ? atomic_load(&slab.chunk[id / CHUNK_G]) : NULL; /* pairs with fresh */
    uint64_t number;
    bool ok = c && fen__sys_copy_all(&number, &c[id % CHUNK_G].number, sizeof number);
    return ok ? number : 0;
}

void fen__spawn_table(uint64_t *ret_chunks, uint64_t *ret_used, uint64_t *ret_chunk_fibers)
{
    *ret_chunks = (uintptr_t)slab.chunk;
    *ret_used = (uintptr_t)&slab.used;
    *ret_chunk_fibers = CHUNK_G;
}

struct fen__limit *fen__run_limit(void) { return &fen__sched.limit; }
