/* layout.c - a table of addresses and offsets for tools/fen-gdb.py, so that it can list fibers
 * in a program or core file that has no debug information, or no symbols at all: then it is
 * found by its first sixteen bytes. The script knows the order; whoever adds a word adds it at
 * the end, whoever changes one raises the version. In the data segment, and written to as a run
 * starts, so that it is in the core. */
#include "sched/see.h"

#include <fen/sync.h>

#define G(field) offsetof(struct fen__g, field)
#define M(field) offsetof(struct fen__m, field)
#define VERSION 1

struct fen__layout {
    char magic[16];
    uint64_t version, words;
    uint64_t chunks, used, chunk_fibers, ms; /* addresses, then a count, then an address */
    uint64_t wall_ns, tsc, ns_of_gig;        /* when the run began; ns of 2^30 ticks */
    uint64_t g_bytes, g_sp, g_wait, g_reason, g_live, g_parked_at, g_cpu, g_fn, g_name, g_number;
    uint64_t g_on, g_site, g_stack_low, g_stack_bytes, g_stack_slot, g_stack_canary, g_painted;
    uint64_t m_next, m_cur, m_tid, m_phase;
    uint64_t page, line, colours, parked;
    uint64_t reasons; /* address of names, each a pointer; count */
    uint64_t n_reasons;
    uint64_t slot_fd, mutex_held, g_node_index;
};

struct fen__layout fen__debug_layout = {
    .magic = "fen-gdb-layout!",
    .version = VERSION,
    .words = (sizeof(struct fen__layout) - 16) / 8,
    .g_bytes = sizeof(struct fen__g),
    .g_sp = G(sp),
    .g_wait = G(wait),
    .g_reason = G(reason),
    .g_live = G(live),
    .g_parked_at = G(parked_at),
    .g_cpu = G(cpu_ticks),
    .g_fn = G(fn),
    .g_name = G(name),
    .g_number = G(number),
    .g_on = G(on),
    .g_site = G(site),
    .g_stack_low = G(stack.low),
    .g_stack_bytes = G(stack.bytes),
    .g_stack_slot = G(stack.slot),
    .g_stack_canary = G(stack.canary),
    .g_painted = G(painted),
    .m_next = M(next),
    .m_cur = M(cur),
    .m_tid = M(tid),
    .m_phase = M(phase),
    .line = FEN__LINE,
    .colours = FEN__STACK_COLOURS,
    .parked = FEN__PARKED,
    .n_reasons = FEN__R_COUNT,
    .slot_fd = offsetof(struct fen__slot, fd),
    .mutex_held = offsetof(fen_mutex, held),
    .g_node_index = G(node.index),
};

void fen__layout_fill(void)
{
    struct fen__layout *l = &fen__debug_layout;
    fen__spawn_table(&l->chunks, &l->used, &l->chunk_fibers);
    l->ms = (uintptr_t)&fen__sched.ms;
    l->wall_ns = (uint64_t)fen__sys_wall_ns();
    l->tsc = fen__tsc();
    l->ns_of_gig = (uint64_t)fen__tsc_to_ns(INT64_C(1) << 30);
    l->page = fen__sys_page_bytes();
    l->reasons = (uintptr_t)fen__reason_names;
}
