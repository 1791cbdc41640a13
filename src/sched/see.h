/* see.h - what the files share that show fibers to people: see.c, view.c, dump.c, stuck.c,
 * layout.c, crash.c. */
#ifndef FEN_SCHED_SEE_H
#define FEN_SCHED_SEE_H

#include "sched/sched_int.h"
#include "sys/look.h"

#include <fen/debug.h>

#define FEN__FRAMES 24
#define FEN__NAME_BYTES 40
#define FEN__LABEL_BYTES 256

enum fen__state { FEN__S_PARKED, FEN__S_READY, FEN__S_RUNNING, FEN__S_BLOCKING };

/* A fiber as it was a moment ago. Times of the bill are up to its last switch. */
struct fen__view {
    const struct fen__g *g;
    uint64_t number;
    char name[FEN__NAME_BYTES];
    enum fen__state state;
    enum fen__reason reason;
    int tid; /* running, blocking: its thread */
    struct fen__on on;
    const void *entry, *site;
    int64_t for_ns, cpu_ns;
    char labels[FEN__LABEL_BYTES]; /* not terminated */
    size_t nlabels;
    char *low, *top, *sp; /* of the stack; sp NULL while it runs */
    bool painted, canary, ending, cold;
    int nframes;
    const void *frame[FEN__FRAMES];
};

/* Who is on a thread now. */
struct fen__running {
    int n, cap;
    struct {
        const struct fen__g *g;
        int tid;
        bool blocking;
    } at[];
};

/* ---- view.c ---- */
extern const char *const fen__reason_names[FEN__R_COUNT];
const char *fen__reason_name(enum fen__reason why);
struct fen__running *fen__running_take(void); /* NULL: no memory */
void fen__running_free(struct fen__running *r);
/* False: there is no such fiber (any more). Any thread. */
bool fen__view_take(struct fen__g *g, const struct fen__running *r, struct fen__view *ret_view);
/* Return addresses up the frame pointers from (pc, fp); what does not look like a frame of that
 * stack ends the walk. Reads by fen__sys_copy, so also signal-safe. */
int fen__walk(uintptr_t pc, uintptr_t fp, uintptr_t low, uintptr_t top, const void **ret, int max);
/* Program counter and frame pointer of a fiber that is switched out. */
bool fen__saved_frame(const void *sp, uintptr_t *ret_pc, uintptr_t *ret_fp);
/* Deepest use of the stack in bytes: exact when painted, else by the pages it holds, which may be
 * those of an earlier fiber. */
size_t fen__stack_peak(const struct fen__view *v);

/* ---- dump.c ---- */
void fen__view_put(struct fen__text *t, const struct fen__view *v); /* one line */
void fen__frames_put(struct fen__text *t, const void *const *frame, int n);
int fen__dump(void (*put)(void *arg, const char *text, size_t n), void *arg);

/* ---- pace.c ---- */
int fen__pace_configure(const fen_config *cfg); /* 0 or -EINVAL */
void fen__pace_begin(void);
void fen__profile_start(void);

/* ---- see.c ---- */
struct fen__see {
    uint32_t lock; /* held while somebody looks, and while the run's memory goes away */
    bool open;     /* under lock: there is a run to look at */
    bool paint, leaks;
    bool memtrace; /* a line for each reclaim */
    bool watch;    /* stacks of hibernating fibers: a touch faults */
    enum fen_on_deadlock on_deadlock;
    void (*report)(void *arg, const char *text, size_t n);
    void *report_arg;
    int64_t start_ns;
    _Atomic uint32_t asked; /* FEN__ASK_*; the helper's futex */
    _Atomic int outsiders;
    _Atomic bool outside_woke; /* a thread outside has woken a fiber of this run */
};
extern struct fen__see fen__see;
enum { FEN__ASK_DUMP = 1, FEN__ASK_STUCK = 2, FEN__ASK_DEEP = 4, FEN__ASK_STOP = 8 };

int fen__see_config(const fen_config *cfg); /* 0, -EINVAL */
void fen__see_open(void);
void fen__see_close(void);        /* the monitor has ended, the fibers too */
void fen__see_ask(uint32_t what); /* signal-safe */
void fen__see_work(void);         /* the monitor's: starts the helper when there is something */
/* A fiber was switched out with less than a fifth of its stack left. RT. */
void fen__see_deep(struct fen__g *g, size_t used);
void fen__see_ended(struct fen__g *g); /* one whose stack was painted. On its M's stack. */
void fen__see_leaks(void);             /* of the scheduler: before the fibers are cancelled */

/* ---- stuck.c ---- */
void fen__stuck_init(void);
/* The monitor's, before it sleeps until something happens: until when it may. */
int64_t fen__stuck_look(int64_t now);
/* Nothing inside fen could wake a fiber, provided that every P is idle and no timer is armed. */
bool fen__stuck_helpless(void);
void fen__stuck_report(void);

/* ---- layout.c ---- */
extern struct fen__layout fen__debug_layout;
/* spawn.c: where its slab is: an array of pointers to chunks, how many fibers it has handed out. */
void fen__spawn_table(uint64_t *ret_chunks, uint64_t *ret_used, uint64_t *ret_chunk_fibers);
void fen__layout_fill(void);

#endif
