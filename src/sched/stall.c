/* stall.c - who stalls, with name and stack, for the program's log.
 *
 * Everything here runs on the monitor thread. One event is under way at a time:
 *   note    inside take(), under sched.lock: the fiber cannot get past fen__global_push while the
 *           lock is held, so its number, its name (copied) and its stack's bounds are its own
 *   begin   after take(): a thread that computes is asked for its frames (sys/trace.c); one that
 *           sleeps in the kernel is not disturbed, its program counter stands in /proc
 *   poll    each round: the answer, or none within ANSWER_NS, goes to the program's function
 * Events within EVENT_GAP of the last of their kind are counted and not told.
 *
 * Without fen_config.log none of this happens and no signal handler is installed. */
#include "sched/sched_int.h"
#include "sys/trace.h"

#include <string.h>

#define EVENT_GAP FEN_S
#define ANSWER_NS (100 * FEN_MS)
#define KINDS 3
#define NAME_BYTES 64

static struct {
    bool tracing, pending, waits;
    int64_t since_ns;
    fen_event event;
    char name[NAME_BYTES];
    const void *frame[FEN_FRAMES_MAX];
    int tid;
    const void *low, *top;
    int64_t told_ns[KINDS], suppressed[KINDS];
} stall;

void fen__stall_init(void)
{
    memset(&stall, 0, sizeof stall);
    for (int i = 0; i < KINDS; i++)
        stall.told_ns[i] = -EVENT_GAP;
    stall.tracing = fen__sched.log && fen__trace_install();
}

void fen__stall_fini(void)
{
    if (stall.tracing)
        fen__trace_restore();
}

static bool admit(enum fen_event_kind kind, int64_t now)
{
    if (!fen__sched.log)
        return false;
    if (!stall.pending && now - stall.told_ns[kind] >= EVENT_GAP)
        return true;
    stall.suppressed[kind]++;
    return false;
}

/* sched.lock held; m has just lost its P. */
void fen__stall_note(struct fen__m *m, enum fen_event_kind kind, int64_t now)
{
    if (!admit(kind, now))
        return;
    /* acquire: pairs with the store in run_one; NULL: back in the runtime by now */
    struct fen__g *g = __atomic_load_n(&m->cur, __ATOMIC_ACQUIRE);
    if (!g)
        return;
    strncpy(stall.name, g->name ? g->name : "", NAME_BYTES - 1);
    stall.event = (fen_event){.kind = kind,
                              .fiber = g->number,
                              .name = stall.name,
                              .entry = (const void *)(uintptr_t)g->fn,
                              .stuck_ns = now - m->since_ns,
                              .frames = stall.frame};
    stall.tid = m->tid;
    stall.low = fen__stack_low(&g->stack);
    stall.top = fen__stack_top(&g->stack);
    stall.since_ns = now;
    stall.pending = true;
    stall.waits = false;
}

/* Who it is cannot be said: it may go on at any moment. */
void fen__stall_refused(int64_t stuck_ns, int64_t now)
{
    if (!admit(FEN_EVENT_NO_THREAD, now))
        return;
    stall.event = (fen_event){
        .kind = FEN_EVENT_NO_THREAD, .name = "", .stuck_ns = stuck_ns, .frames = stall.frame};
    stall.pending = true;
    stall.waits = false;
}

void fen__stall_begin(void)
{
    if (!stall.pending || stall.waits)
        return;
    if (stall.event.kind == FEN_EVENT_BLOCKED) {
        stall.frame[0] = fen__trace_sleeper(stall.tid);
        stall.event.n_frames = stall.frame[0] != NULL;
    } else {
        stall.waits = stall.tracing && fen__trace_ask(stall.tid, stall.low, stall.top) == 0;
    }
}

bool fen__stall_poll(int64_t now)
{
    if (!stall.pending)
        return false;
    if (stall.waits) {
        int n = fen__trace_answer(stall.frame, FEN_FRAMES_MAX);
        if (n < 0 && (now - stall.since_ns < ANSWER_NS || !fen__trace_forget()))
            return true;
        stall.event.n_frames = n < 0 ? 0 : n;
    }
    enum fen_event_kind kind = stall.event.kind;
    stall.event.suppressed = stall.suppressed[kind];
    stall.suppressed[kind] = 0;
    stall.told_ns[kind] = now;
    stall.pending = false;
    fen__sched.log(&stall.event, fen__sched.log_arg);
    return false;
}
