/* fibers.c - fifty lookups at once: fibers, and a scope that waits for them. docs/tutorial/1. */
#include <fen/fen.h>
#include <stdio.h>

#define LOOKUPS 50

struct lookup {
    int key, value;
    int rc;
};

/* Asks somebody who takes 100 ms. Only this fiber waits; its thread runs others meanwhile. */
static void look_up(void *arg)
{
    struct lookup *l = arg;
    l->rc = fen_sleep(100 * FEN_MS);
    l->value = l->key * l->key;
}

static int app(void *arg)
{
    struct lookup l[LOOKUPS] = {0};
    int64_t begin = fen_now();
    (void)arg;
    fen_scope *s = fen_scope_open(FEN_NEVER);
    if (!s)
        return -ENOMEM;
    int rc = 0;
    for (int i = 0; i < LOOKUPS && !rc; i++) {
        l[i].key = i;
        rc = fen_go(look_up, &l[i]); /* from here on l[i] is the fiber's */
    }
    int ended = fen_scope_close(s); /* returns when all have ended: l is ours again */
    rc = rc ? rc : ended;
    int64_t sum = 0;
    for (int i = 0; i < LOOKUPS; i++) {
        sum += l[i].value;
        rc = rc ? rc : l[i].rc;
    }
    bool at_once = fen_now() - begin < LOOKUPS * 100 * FEN_MS;
    printf("the sum is %lld, asked %s\n", (long long)sum,
           at_once ? "all at once" : "one after the other");
    return rc;
}

int main(void)
{
    int rc = fen_run(app, NULL, NULL);
    if (rc < 0)
        fprintf(stderr, "fibers: %s\n", fen_strerror(rc));
    return rc < 0;
}
