/* pace.c - how the heap of a run is paced: configuration, environment, and the line of a reclaim.
 *
 * What the configuration says wins over a variable of its own, which wins over the profile. The
 * heap profile's rate, too. */
#include "sched/see.h"

#include "mem/mem.h"

#include <stdlib.h>
#include <string.h>

static struct fen__pace_config conf;
static int64_t profile_rate;

static int from_env(struct fen__pace_config *c)
{
    const char *percent = fen__env("FEN_MEM_PERCENT"), *limit = fen__env("FEN_MEMLIMIT");
    if (percent && fen_mem_percent_parse(percent, &c->percent))
        return fen__env_refuse("FEN_MEM_PERCENT", "a whole number from 1 to 10000, or off");
    if (limit && fen_mem_limit_parse(limit, &c->limit_bytes))
        return fen__env_refuse("FEN_MEMLIMIT",
                               "a whole number with B, KiB, MiB, GiB or TiB, at least 1MiB, such "
                               "as 512MiB; or auto, or off");
    return 0;
}

static int profile_configure(const fen_config *cfg)
{
    const char *rate = fen__env("FEN_HEAP_PROFILE_RATE");
    profile_rate = cfg->heap_profile_rate;
    if (!profile_rate && rate && fen_profile_heap_rate_parse(rate, &profile_rate))
        return fen__env_refuse("FEN_HEAP_PROFILE_RATE",
                               "a whole number, or one with B, KiB or MiB; or off");
    bool ok = profile_rate >= FEN_PROFILE_OFF && profile_rate <= FEN_PROFILE_RATE_MAX;
    return ok ? 0 : -EINVAL;
}

/* The profile of memory that the numbers come from where nothing else says so. */
static int base_of(const fen_config *cfg, struct fen__pace_config *ret)
{
    const char *name = fen__env("FEN_MEM_PROFILE");
    if (cfg->mem_profile)
        return fen__pace_profile(cfg->mem_profile, ret);
    if (fen__pace_profile(name ? name : "balanced", ret))
        return fen__env_refuse("FEN_MEM_PROFILE", "balanced, latency or container");
    return 0;
}

static bool percent_ok(int p) { return p == FEN_MEM_OFF || (p >= 0 && p <= FEN_MEM_PERCENT_MAX); }

static bool limit_ok(int64_t b)
{
    return !b || b == FEN_MEM_AUTO || b == FEN_MEM_OFF || b >= FEN_MEM_LIMIT_MIN;
}

int fen__pace_configure(const fen_config *cfg)
{
    if (base_of(cfg, &conf) || from_env(&conf) || !percent_ok(cfg->mem_percent) ||
        !limit_ok(cfg->mem_limit_bytes) || profile_configure(cfg))
        return -EINVAL;
    conf.percent = cfg->mem_percent ? cfg->mem_percent : conf.percent;
    if (cfg->mem_limit_bytes)
        conf.limit_bytes = cfg->mem_limit_bytes == FEN_MEM_OFF ? 0 : cfg->mem_limit_bytes;
    return 0;
}

/* ---- a line for each reclaim ---- */

static void put(struct fen__text *t, const char *name, int64_t v)
{
    fen__text_put(t, name);
    fen__text_dec(t, v);
}

static void put_seconds(struct fen__text *t, int64_t ns)
{
    char digits[8] = ".000000";
    put(t, " at=", ns / FEN_S);
    for (int64_t i = 6, us = ns % FEN_S / FEN_US; i > 0; i--, us /= 10)
        digits[i] = (char)('0' + us % 10);
    fen__text_put(t, digits);
}

static void told(const struct fen__reclaim_cycle *c)
{
    static const char *const names[] = {"goal", "idle", "limit", "asked"};
    char bytes[512];
    struct fen__text t = {bytes, 0, sizeof bytes};
    put(&t, "memtrace: cycle=", c->number);
    put_seconds(&t, fen__max_i64(c->at_ns - fen__see.start_ns, 0));
    fen__text_put(&t, " why=");
    fen__text_put(&t, names[c->why]);
    put(&t, " live=", c->live_before);
    put(&t, "->", c->live_after);
    put(&t, " held=", c->held_before);
    put(&t, "->", c->held_after);
    if (c->goal)
        put(&t, " goal=", c->goal);
    else
        fen__text_put(&t, " goal=off");
    put(&t, " returned=", c->returned);
    put(&t, " slices=", c->slices);
    put(&t, " slice_max_ns=", c->slice_max_ns);
    put(&t, " took_ns=", c->took_ns);
    fen__text_put(&t, " workers=1\n");
    fen__report(bytes, t.n);
}

/* Its name, and the stack that it runs on, by the word in it that mem has. */
static void fiber_of(const uint32_t *carrier, struct fen__mem_fiber *ret)
{
    const struct fen__g *g =
        (const struct fen__g *)(const void *)((const char *)carrier -
                                              offsetof(struct fen__g, account));
    *ret = (struct fen__mem_fiber){g->name, g->stack.low, fen__stack_top(&g->stack)};
}

void fen__profile_start(void)
{
    fen__profile_fibers(fiber_of);
    fen__profile_begin(profile_rate);
}

void fen__pace_begin(void)
{
    conf.told = fen__see.memtrace ? told : NULL;
    fen__pace_open(&conf);
}
