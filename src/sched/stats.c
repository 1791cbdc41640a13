/* stats.c - what the runtime holds, summed over the workers when asked. */
#include "sched/sched_int.h"

#include "mem/mem.h"

static void add(struct fen__tally *t, void *arg)
{
    fen_stats *s = arg;
    s->fibers_spawned += fen__count_read(&t->spawns);
    s->timers_live += fen__count_read(&t->timers_added) - fen__count_read(&t->timers_removed);
    s->steals += fen__count_read(&t->steals);
    s->overflows += fen__count_read(&t->overflows);
    s->switches += fen__count_read(&t->switches);
    s->parks += fen__count_read(&t->parks);
    s->polls += fen__count_read(&t->polls);
    s->poll_events += fen__count_read(&t->poll_events);
    s->wakeups += fen__count_read(&t->wakeups);
    s->files_direct += fen__count_read(&t->files_direct);
    s->files_ring += fen__count_read(&t->files_ring);
    s->files_pool += fen__count_read(&t->files_pool);
}

static void add_ended(struct fen__tally *t, void *n)
{
    *(int64_t *)n += fen__count_read(&t->ended);
}

void fen_stats_get(fen_stats *ret_stats)
{
    fen_stats s = {0};
    int64_t ended = 0;
    fen__each_tally(add_ended, &ended); /* before the spawns: never less than what lives */
    fen__each_tally(add, &s);
    s.fibers_live = s.fibers_spawned - ended;
    s.fibers_hibernating = fen__hibernate_count();
    s.file_ring = atomic_load(&fen__file_ring);
    s.fds_live = fen__poll_open_count();
    s.stacks_mapped_bytes = fen__stack_mapped_bytes();
    s.heap_live_bytes = fen__mem_live_bytes();
    s.handoffs = atomic_load(&fen__sched.handoffs);
    s.handoffs_refused = atomic_load(&fen__sched.refused);
    s.threads = __atomic_load_n(&fen__sched.n_ms, __ATOMIC_RELAXED);
    s.run_queue = atomic_load(&fen__sched.n_global);
    fen__lock(&fen__sched.lock); /* the run may begin or end */
    for (int i = 0; fen__sched.ps && i < fen__sched.nps; i++)
        s.run_queue += fen__queue_len(&fen__sched.ps[i]);
    fen__unlock(&fen__sched.lock);
    s.run_queue += fen__sim_ready();
    *ret_stats = s;
}

static void add_exits(struct fen__tally *t, void *n)
{
    *(int64_t *)n += fen__count_read(&t->exits);
}
static void add_spawns(struct fen__tally *t, void *n)
{
    *(int64_t *)n += fen__count_read(&t->spawns);
}

int64_t fen__fibers_unended(void)
{
    int64_t ended = 0, spawns = 0;
    fen__each_tally(add_ended, &ended);
    fen__each_tally(add_spawns, &spawns);
    return spawns - ended;
}

/* All exits are read before any spawn, so the difference is never less than what lived between. */
int64_t fen__fibers_live(void)
{
    int64_t exits = 0, spawns = 0;
    fen__each_tally(add_exits, &exits);
    fen__each_tally(add_spawns, &spawns);
    return spawns - exits;
}
