/* registry.c - lists the tallies and keeps what the dead counted.
 *
 * The sum over fen__tally_each never steps back: a block leaves the list and its numbers join
 * `dead` in one section of `readers`, so a reader sees them once, before or after. A counter that
 * falls reads as a restart in every monitoring system.
 *
 * The lock is between readers and leaving workers only. Registration goes without it (a worker may
 * be started while the scheduler's own lock is held), counting always does. Rejected: blocks that
 * are never freed, which cost every counter a load more, since they cannot lie inside the M. */
#include "probe/tally.h"

#include "sys/sys.h"

static struct fen__tally *slots[FEN__TALLIES_MAX];
static uint32_t slots_used; /* slots at and above this one were never used */
static uint32_t readers;    /* lock: walks over slots, and leaving */
static struct fen__tally dead;

#define CHUNK_BYTES (FEN__ROW_CHUNK * sizeof(struct fen__row))

static int add_chunk(struct fen__tally *t, uint32_t chunk)
{
    void *p;
    int rc = fen__sys_map(CHUNK_BYTES, &p);
    if (rc == 0) /* pairs with fen__tally_chunk */
        __atomic_store_n(&t->rows[chunk], (struct fen__row *)p, __ATOMIC_RELEASE);
    return rc;
}

int fen__tally_register(struct fen__tally *t)
{
    int rc = add_chunk(t, 0);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < FEN__TALLIES_MAX; i++) {
        struct fen__tally *none = NULL; /* release pairs with the load in fen__tally_each */
        if (!__atomic_compare_exchange_n(&slots[i], &none, t, false, __ATOMIC_RELEASE,
                                         __ATOMIC_RELAXED))
            continue;
        uint32_t used = __atomic_load_n(&slots_used, __ATOMIC_RELAXED);
        while (used < i + 1 && !__atomic_compare_exchange_n(&slots_used, &used, i + 1, true,
                                                            __ATOMIC_RELEASE, __ATOMIC_RELAXED))
            ;
        return 0;
    }
    fen__sys_unmap(t->rows[0], CHUNK_BYTES);
    t->rows[0] = NULL;
    return FEN_ELIMIT;
}

/* The numbers in front of rows, and a row, are nothing but int64_t. */
static void fold_words(int64_t *into, const int64_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof *into; i++)
        fen__count_add(&into[i], fen__count_read(&from[i]));
}

static void fold(struct fen__tally *t)
{
    fold_words((int64_t *)&dead, (const int64_t *)t, offsetof(struct fen__tally, rows));
    for (uint32_t c = 0; c < FEN__ROWS_MAX / FEN__ROW_CHUNK; c++) {
        struct fen__row *rows = t->rows[c];
        t->rows[c] = NULL;
        if (!rows)
            continue;
        if (!dead.rows[c]) { /* inherited whole */
            __atomic_store_n(&dead.rows[c], rows, __ATOMIC_RELEASE);
            continue;
        }
        fold_words((int64_t *)dead.rows[c], (const int64_t *)rows, CHUNK_BYTES);
        fen__sys_unmap(rows, CHUNK_BYTES);
    }
}

void fen__tally_unregister(struct fen__tally *t)
{
    uint32_t i = 0;
    fen__lock(&readers);
    while (i < FEN__TALLIES_MAX && __atomic_load_n(&slots[i], __ATOMIC_RELAXED) != t)
        i++;
    fen_assert(i < FEN__TALLIES_MAX);
    fold(t);
    __atomic_store_n(&slots[i], NULL, __ATOMIC_RELEASE);
    fen__unlock(&readers);
}

void fen__tally_each(void (*fn)(const struct fen__tally *t, void *arg), void *arg)
{
    fen__lock(&readers);
    fn(&dead, arg);
    uint32_t used = __atomic_load_n(&slots_used, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < used; i++) {
        const struct fen__tally *t = __atomic_load_n(&slots[i], __ATOMIC_ACQUIRE);
        if (t)
            fn(t, arg);
    }
    fen__unlock(&readers);
}

struct fen__row *fen__tally_row_slow(struct fen__tally *t, uint32_t account)
{
    fen_assert(t->rows[0]); /* registered */
    if (add_chunk(t, account / FEN__ROW_CHUNK) < 0) {
        fen__count_add(&t->rows_refused, 1);
        return t->rows[0];
    }
    return t->rows[account / FEN__ROW_CHUNK] + account % FEN__ROW_CHUNK;
}
