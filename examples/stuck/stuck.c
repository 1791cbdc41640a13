/* stuck.c - a program that gets stuck, to practise on: docs/debugging.md walks through it.
 *
 * Money moves between two accounts, each with a mutex; a mover locks the account it takes from,
 * then the one it gives to. Two movers in opposite directions soon hold one each. A ledger waits
 * for what they report, a cashier sells tickets meanwhile and also wants the second account.
 *
 *     build/release/example_stuck
 */
#include <fen/fen.h>

struct account {
    fen_mutex lock;
    int64_t cents;
};

struct bank {
    struct account savings, giro;
    fen_chan *done;
};

struct order {
    struct bank *bank;
    struct account *from, *to;
};

static int move(struct order *o, int64_t cents)
{
    int rc = fen_mutex_lock(&o->from->lock);
    if (rc)
        return rc;
    (void)fen_sleep(5 * FEN_MS); /* asks somebody whether it may: another fiber runs */
    rc = fen_mutex_lock(&o->to->lock);
    if (!rc) {
        o->from->cents -= cents;
        o->to->cents += cents;
        fen_mutex_unlock(&o->to->lock);
    }
    fen_mutex_unlock(&o->from->lock);
    return rc;
}

static void mover(void *arg)
{
    struct order *o = arg;
    for (int i = 0; i < 1000; i++)
        if (move(o, 100) || fen_chan_send(o->bank->done, &i))
            return;
}

static void ledger(void *arg)
{
    struct bank *b = arg;
    int i;
    for (int n = 0; n < 2000; n++)
        if (fen_chan_recv(b->done, &i))
            return;
}

static void cashier(void *arg)
{
    struct bank *b = arg;
    if (fen_sleep(20 * FEN_MS) || fen_mutex_lock(&b->giro.lock))
        return;
    b->giro.cents += 5;
    fen_mutex_unlock(&b->giro.lock);
}

static int app(void *arg)
{
    struct bank b = {.savings.cents = 1000000, .giro.cents = 1000000};
    struct order out = {&b, &b.savings, &b.giro}, back = {&b, &b.giro, &b.savings};
    (void)arg;
    b.done = fen_chan_new(sizeof(int), 4);
    fen_scope *s = b.done ? fen_scope_open(FEN_NEVER) : NULL;
    if (!s)
        return -ENOMEM;
    int rc = fen_go_named("savings-to-giro", 0, mover, &out);
    if (!rc)
        rc = fen_go_named("giro-to-savings", 0, mover, &back);
    if (!rc)
        rc = fen_go_named("ledger", 0, ledger, &b);
    for (int i = 0; i < 3 && !rc; i++)
        rc = fen_go(cashier, &b);
    if (rc)
        fen_scope_cancel(s);
    int ended = fen_scope_close(s);
    fen_chan_free(b.done);
    return rc ? rc : ended;
}

int main(void) { return fen_run(app, NULL, NULL) < 0; }
