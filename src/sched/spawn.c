/* spawn.c - fibers: slab, caches, first frame, end.
 *
 * A fiber's object lives in a slab apart from its stack and is never unmapped within a run, so that
 * late wakers may always look at it. A finished fiber goes to its M's cache (FEN__G_CACHE), half of
 * which overflows to a global list; a spawn takes from there in that order.
 *
 * max_fibers bounds the living. As long as fewer objects than that were ever handed out nobody
 * counts; later the list and new objects are given only to who counts first, because other Ms'
 * caches hold objects too, which nobody but they can take. When so few are left that caches alone
 * could pass the limit (`scarce`), they are not taken from unasked either. An object more than the
 * limit is made for each that lies in a cache. Ms that count at the same moment may pass the limit
 * by one each.
 *
 * A fiber gets its stack when it first runs (fen__g_bind), from its M's cache of stacks of fibers
 * that have ended, which are warm. Until then sp is NULL. So that this cannot fail, a spawn takes a
 * reservation (fiber/stack.c), and an M reserves the room of its cache as well:
 *   slots mapped >= reserved = live fibers with or for a slot + every M's stack_credit + stack_room
 *   an M holds at most stack_room stacks
 * hence who has a reservation and no stack finds one in its cache or in the pool. An M that cannot
 * reserve room caches no stacks. A fiber that wants more than a slot gets a map of its own at
 * birth. */
#include "sched/see.h"

#include "mem/mem.h"

#include <string.h>

#define CHUNK_G 1024 /* whole pages */
#define NUMBERS 64   /* numbers an M takes at a time */
#define CREDIT 32    /* reservations an M takes at a time */

static struct {
    uint32_t lock;
    struct fen__g *_Atomic chunk[FEN__FIBERS_MAX / CHUNK_G];
    _Atomic uint32_t n;    /* fibers that exist in chunks */
    _Atomic uint32_t used; /* handed out at least once; under the lock */
    struct fen__g *free;
    _Atomic uint64_t number;
} slab;

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
    for (uint32_t i = 0; i < slab.n / CHUNK_G; i++) {
        fen__sys_unmap(slab.chunk[i], chunk_bytes());
        slab.chunk[i] = NULL;
    }
    slab.n = slab.used = 0;
    fen__sched.scarce = false;
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
    if (slab.used == FEN__FIBERS_MAX)
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

/* 0, or FEN_ELIMIT: as many live as may. */
static int count(void)
{
    int64_t max = fen__sched.max_fibers, live = fen__fibers_unended();
    int64_t cached = (int64_t)FEN__G_CACHE * __atomic_load_n(&fen__sched.n_ms, __ATOMIC_RELAXED);
    atomic_store_explicit(&fen__sched.scarce, live + cached >= max, memory_order_relaxed);
    return live < max ? 0 : FEN_ELIMIT;
}

static int take(struct fen__m *m, struct fen__g **ret_g)
{
    bool scarce = atomic_load_explicit(&fen__sched.scarce, memory_order_relaxed);
    if (FEN__UNLIKELY(scarce) && count())
        return FEN_ELIMIT;
    if (FEN__LIKELY(m->gfree != NULL)) {
        *ret_g = m->gfree;
        m->gfree = m->gfree->next;
        m->ngfree--;
        if (m->gfree) /* the next spawn's */
            fen__prefetch(m->gfree->next, 3 * FEN__LINE);
        return 0;
    }
    uint32_t used = atomic_load_explicit(&slab.used, memory_order_relaxed);
    if (FEN__UNLIKELY(used >= fen__sched.max_fibers) && !scarce && count())
        return FEN_ELIMIT;
    fen__lock(&slab.lock);
    int rc = 0;
    if (slab.free) {
        *ret_g = slab.free;
        slab.free = slab.free->next;
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
    for (int i = 1; i < FEN__G_CACHE / 2; i++)
        last = last->next;
    m->gfree = last->next;
    m->ngfree -= FEN__G_CACHE / 2;
    fen__lock(&slab.lock);
    last->next = slab.free;
    slab.free = head;
    fen__unlock(&slab.lock);
}

static void drop(struct fen__m *m, struct fen__g *g)
{
    g->next = m->gfree;
    m->gfree = g;
    if (++m->ngfree > FEN__G_CACHE)
        spill(m);
}

/* ---- stacks ---- */

/* The room first: without it the cache stays empty. */
static int reserve(struct fen__m *m)
{
    if (!m->stack_room && fen__stack_reserve(FEN__STACK_CACHE) == 0)
        m->stack_room = FEN__STACK_CACHE;
    if (fen__stack_reserve(CREDIT) == 0)
        m->stack_credit = CREDIT;
    else if (fen__stack_reserve(1) == 0)
        m->stack_credit = 1;
    return m->stack_credit ? 0 : -ENOMEM;
}

static void unreserve(struct fen__m *m)
{
    if (++m->stack_credit > 3 * CREDIT) {
        m->stack_credit -= 2 * CREDIT;
        fen__stack_unreserve(2 * CREDIT);
    }
}

static void take_stack(struct fen__m *m, struct fen__stack *ret)
{
    if (FEN__UNLIKELY(!m->nstacks)) {
        if (!m->stack_room) {
            fen_assert(fen__stack_take(ret, 1));
            return;
        }
        m->nstacks = fen__stack_take(m->stacks, FEN__STACK_CACHE / 2);
        fen_assert(m->nstacks);
    }
    *ret = m->stacks[--m->nstacks];
}

static void drop_stack(struct fen__m *m, struct fen__g *g)
{
    if (FEN__UNLIKELY(g->stack.slot == UINT32_MAX)) {
        fen__stack_unmap(&g->stack);
        return;
    }
    if (FEN__UNLIKELY(m->nstacks == m->stack_room)) {
        uint32_t half = m->stack_room / 2;
        fen__stack_give(&g->stack, 1);
        fen__stack_give(m->stacks, half); /* the coldest */
        m->nstacks -= half;
        memmove(m->stacks, m->stacks + half, m->nstacks * sizeof *m->stacks);
    } else {
        m->stacks[m->nstacks++] = g->stack;
    }
    unreserve(m);
}

/* RT; g will run next, on m. */
void fen__g_bind(struct fen__m *m, struct fen__g *g)
{
    if (!g->stack.low)
        take_stack(m, &g->stack);
    char *top = fen__stack_top(&g->stack), *low = fen__stack_low(&g->stack);
    fen__annot_new(&g->annot, low, (size_t)(top - low));
    if (FEN__UNLIKELY(fen__see.paint)) {
        fen__stack_paint(&g->stack);
        g->painted = true;
    }
    g->sp = top; /* begun */
}

/* Not on the fiber's stack; it will not run again. */
void fen__g_free(struct fen__m *m, struct fen__g *g)
{
    fen__annot_end(&g->annot);
    if (FEN__UNLIKELY(g->painted))
        fen__see_ended(g);
    drop_stack(m, g);
    g->stack.low = NULL;
    g->live = 0;
    __atomic_store_n(&g->limit, NULL, __ATOMIC_RELAXED);
    g->scope = NULL;
    fen__count_add(&m->tally.exits, 1);
    drop(m, g);
}

/* The first fibers are numbered one by one, as people like it; later ones by the block. */
static uint64_t number(struct fen__m *m)
{
    if (FEN__UNLIKELY(m->number == m->number_end)) {
        uint64_t n = atomic_load_explicit(&slab.number, memory_order_relaxed) < 1000 ? 1 : NUMBERS;
        m->number = atomic_fetch_add_explicit(&slab.number, n, memory_order_relaxed);
        m->number_end = m->number + n;
    }
    return ++m->number;
}

static void reset(struct fen__m *m, struct fen__g *g, const struct fen__spawn *how)
{
    __atomic_store_n(&g->limit, how->limit, __ATOMIC_RELAXED);
    g->scope = how->scope;
    g->sp = NULL;
    g->fn = how->fn;
    g->arg = how->arg;
    g->end = how->end;
    g->name = how->name;
    g->site = how->site;
    g->deep = g->painted = g->lent = false;
    g->number = number(m);
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
    if (FEN__UNLIKELY(!fen__stack_is_slot(how->stack_bytes)))
        rc = fen__stack_map(how->stack_bytes, &g->stack);
    else if (FEN__UNLIKELY(!m->stack_credit))
        rc = reserve(m);
    if (FEN__UNLIKELY(rc)) {
        drop(m, g);
        return rc;
    }
    if (!g->stack.low)
        m->stack_credit--;
    reset(m, g, how);
    g->account = m->cur ? m->cur->account : 0;
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
        id < FEN__FIBERS_MAX ? atomic_load(&slab.chunk[id / CHUNK_G]) : NULL; /* pairs with fresh */
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
