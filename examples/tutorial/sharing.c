/* sharing.c - a mutex, a read-write lock, an error group with a limit. Chapter 5. */
#include <fen/fen.h>
#include <stdio.h>

struct shop {
    fen_mutex till_lock;
    int64_t till; /* under till_lock */
    fen_rwlock price_lock;
    int price;               /* under price_lock */
    fen_mutex queue_lock;    /* over the two counts */
    int inside, most_inside; /* customers */
};

static int count(struct shop *s, int change)
{
    int rc = fen_mutex_lock(&s->queue_lock);
    if (rc < 0)
        return rc; /* the group was cancelled: not locked, nothing changed */
    s->inside += change;
    s->most_inside = s->inside > s->most_inside ? s->inside : s->most_inside;
    fen_mutex_unlock(&s->queue_lock);
    return 0;
}

static int pay(struct shop *s)
{
    int rc = fen_rwlock_read_lock(&s->price_lock);
    if (rc < 0)
        return rc;
    int price = s->price;
    fen_rwlock_read_unlock(&s->price_lock);
    rc = fen_mutex_lock(&s->till_lock);
    if (rc < 0)
        return rc;
    s->till += price;
    fen_mutex_unlock(&s->till_lock);
    return 0;
}

static int customer(void *arg)
{
    struct shop *s = arg;
    int rc = count(s, 1);
    if (!rc)
        rc = fen_sleep(FEN_MS); /* looks around */
    if (!rc)
        rc = pay(s);
    return rc ? rc : count(s, -1);
}

static int robber(void *arg)
{
    (void)arg;
    return -EPERM;
}

static int open_day(struct shop *s, int customers, bool robbed)
{
    fen_group *g = fen_group_open(10, FEN_NEVER); /* ten at a time */
    if (!g)
        return -ENOMEM;
    int rc = 0;
    for (int i = 0; i < customers && !rc; i++)
        rc = fen_group_go(g, robbed && i == 50 ? robber : customer, s); /* waits for a place */
    int first = fen_group_wait(g);
    return first ? first : rc;
}

static int app(void *arg)
{
    struct shop s = {.price = 3}; /* zero is a free lock */
    (void)arg;
    int rc = open_day(&s, 200, false);
    printf("a good day: %s, %lld in the till, never more than %d inside: %s\n", fen_strerror(rc),
           (long long)s.till, 10, s.most_inside <= 10 ? "true" : "false");
    rc = open_day(&s, 200, true);
    printf("a bad day: %s\n", fen_strerror(rc));
    return 0;
}

int main(void) { return fen_run(app, NULL, NULL) < 0; }
