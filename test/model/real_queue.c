/* real_queue.c - src/sched/queue.c and newborn.c as they are: a P's owner against two thieves,
 * ring, runnext, overflow to the global list, fibers that have not begun. Each fiber comes out
 * once, with what was written into it before it was queued. queue_test.c explores the same protocol
 * without a bound. */
#include "real_rig.h"

static uint32_t payload[RIG_GS]; /* plain: whoever gets the fiber reads it */
static int came[RIG_GS], n_made;
static const char *script;

static void *tls(int self) { return &rig_m[self]; }

static void set(int ps, const char *text)
{
    rig_init(ps);
    memset(payload, 0, sizeof payload);
    memset(came, 0, sizeof came);
    n_made = 0;
    script = text;
}

static void got(struct fen__g *g)
{
    int i = (int)(g - rig_g);
    il_fail(i < 0 || i >= n_made, "what came out is no fiber");
    il_read(&payload[i], sizeof payload[i]);
    il_fail(payload[i] != (uint32_t)i + 1, "its maker's writes are not there");
    il_fail(came[i]++, "a fiber twice");
}

/* T: made ready at the tail; N: as runnext; n: not begun; P: the next one; G: of the global
 * list. */
static void owner(void)
{
    for (const char *c = script; *c; c++) {
        struct fen__g *g = &rig_g[n_made];
        if (strchr("TNn", *c)) {
            il_write(&payload[n_made], sizeof payload[n_made]);
            payload[n_made] = (uint32_t)n_made + 1;
            g->sp = *c == 'n' ? NULL : g;
            n_made++;
        }
        switch (*c) {
        case 'T': fen__queue_tail(&rig_m[0], g); break;
        case 'n':
        case 'N': (void)fen__queue_next(&rig_m[0], g); break;
        case 'G': g = fen__global_pop(&rig_m[0], 2); break;
        default: g = fen__queue_pop(&rig_p[0]); break;
        }
        if (strchr("GP", *c) && g)
            got(g);
    }
}

static void thief(int self)
{
    struct fen__g *g = fen__queue_steal(&rig_p[self], &rig_p[0], true);
    if (!g)
        g = fen__newborn_steal(&rig_m[self], &rig_p[0]);
    if (!g)
        g = fen__global_pop(&rig_m[self], 2);
    if (g)
        got(g);
    if (self == 2 && (g = fen__queue_steal(&rig_p[2], &rig_p[1], false)))
        got(g);
    while ((g = fen__queue_pop(&rig_p[self])))
        got(g);
}

static void actor(int self)
{
    if (self)
        thief(self);
    else
        owner();
}

/* What is still in a queue comes out now. */
static void end(void)
{
    struct fen__g *g;
    for (int i = 0; i < fen__sched.nps; i++) {
        il_fail(!il_done(i), "one waits for ever");
        while ((g = fen__queue_pop(&rig_p[i])))
            got(g);
    }
    while ((g = fen__global_pop(&rig_m[0], 1)))
        got(g);
    for (int i = 0; i < n_made; i++)
        il_fail(!came[i], "a fiber is lost");
    il_fail(fen__sched.n_global != 0, "the global list counts wrongly");
}

/* Two take from the global list and put there what their rings do not hold. */
static void filler(int self)
{
    struct fen__g *g;
    if (self == 0)
        owner();
    for (int i = 0; self && i < 2; i++)
        if ((g = fen__global_pop(&rig_m[self], 2)))
            got(g);
    while (self && (g = fen__queue_pop(&rig_p[self])))
        got(g);
}

#define SCENARIO(name, what, ps, bound, actor, text)                                               \
    static void name##_init(void) { set(ps, text); }                                               \
    const struct il_scenario real_##name = {what, ps, bound, name##_init, actor, end, tls, 1000};
SCENARIO(next, "runnext", 2, 4, actor, "NNPNP")
SCENARIO(overflow, "overflow", 2, 3, actor, "TTTTTPTG")
SCENARIO(wrap, "the ring wraps", 2, 3, actor, "TTTPPTTPT")
SCENARIO(newborn, "fibers that have not begun", 2, 3, actor, "nnNnP")
SCENARIO(thieves, "two thieves", 3, 2, actor, "TTTnNP")
SCENARIO(global, "the global list", 3, 2, filler, "TTTTTG")
