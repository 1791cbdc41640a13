/* registry.c - hands out tallies and lists them.
 *
 * A slot goes: empty -> held <-> free, and never back to empty. `held` is the only word that
 * threads compete for; the pointer is written once, by the first holder.
 *
 * Blocks are never freed and never folded. Rejected: folding a leaving worker's numbers into a
 * common block, because a reader between the fold and the removal sees that work twice or not at
 * all unless both sides take a lock, and a counter that steps back reads as a restart in every
 * monitoring system. The price is one page for each worker that ever ran at the same time as the
 * others (12 KiB with the first rows), at most FEN__TALLIES_MAX. */
#include "probe/tally.h"

#include "sys/sys.h"

static struct {
    bool held;
    struct fen__tally *tally;
} slots[FEN__TALLIES_MAX];

static uint32_t slots_used; /* slots at and above this one are empty */

/* The block and its first chunk of rows in one map. */
static struct fen__tally *make(void)
{
    size_t head = (sizeof(struct fen__tally) + FEN__LINE - 1) & ~(size_t)(FEN__LINE - 1);
    void *p;
    if (fen__sys_map(head + FEN__ROW_CHUNK * sizeof(struct fen__row), &p) < 0)
        return NULL;
    struct fen__tally *t = p;
    t->rows[0] = (struct fen__row *)((char *)p + head);
    return t;
}

static struct fen__tally *take(uint32_t i)
{
    if (__atomic_load_n(&slots[i].held, __ATOMIC_RELAXED))
        return NULL;
    /* pairs with the release store in fen__tally_release: the last holder's sums are seen */
    if (__atomic_exchange_n(&slots[i].held, true, __ATOMIC_ACQUIRE))
        return NULL;
    struct fen__tally *t = __atomic_load_n(&slots[i].tally, __ATOMIC_RELAXED);
    if (t)
        return t;
    t = make();
    if (!t) {
        __atomic_store_n(&slots[i].held, false, __ATOMIC_RELEASE);
        return NULL;
    }
    __atomic_store_n(&slots[i].tally, t, __ATOMIC_RELEASE); /* pairs with fen__tally_each */
    uint32_t used = __atomic_load_n(&slots_used, __ATOMIC_RELAXED);
    while (used < i + 1 && !__atomic_compare_exchange_n(&slots_used, &used, i + 1, true,
                                                        __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
    return t;
}

struct fen__tally *fen__tally_acquire(void)
{
    for (uint32_t i = 0; i < FEN__TALLIES_MAX; i++) {
        struct fen__tally *t = take(i);
        if (t)
            return t;
    }
    return NULL;
}

void fen__tally_release(struct fen__tally *t)
{
    if (!t)
        return;
    for (uint32_t i = 0; i < FEN__TALLIES_MAX; i++) {
        if (__atomic_load_n(&slots[i].tally, __ATOMIC_RELAXED) == t) {
            __atomic_store_n(&slots[i].held, false, __ATOMIC_RELEASE);
            return;
        }
    }
    fen_assert(!"a tally that the registry did not hand out");
}

void fen__tally_each(void (*fn)(const struct fen__tally *t, void *arg), void *arg)
{
    uint32_t used = __atomic_load_n(&slots_used, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < used; i++) {
        const struct fen__tally *t = __atomic_load_n(&slots[i].tally, __ATOMIC_ACQUIRE);
        if (t)
            fn(t, arg);
    }
}

struct fen__row *fen__tally_row_slow(struct fen__tally *t, uint32_t account)
{
    void *p;
    if (fen__sys_map(FEN__ROW_CHUNK * sizeof(struct fen__row), &p) < 0) {
        fen__count_add(&t->rows_refused, 1);
        return t->rows[0];
    }
    struct fen__row *c = p;
    __atomic_store_n(&t->rows[account / FEN__ROW_CHUNK], c, __ATOMIC_RELEASE);
    return c + account % FEN__ROW_CHUNK;
}
