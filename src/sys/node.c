/* node.c - NUMA nodes, from /sys/devices/system/node, by system calls alone.
 *
 * A thread that enters a node is bound to those of its processors that the process could use when
 * the nodes were opened. What it starts inherits that: fen's own threads and child processes are
 * started with all processors again (node_everywhere), what user code starts is not.
 *
 * Memory gets a preference, not a binding: a full node is no reason to be killed. */
#include "sys/node.h"

#include "sys/proc.h"
#include "sys/sys.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CPUS_MAX 4096 /* a machine with more is one node */
#define IDS_MAX 1024  /* of nodes, as the kernel numbers them */
#define WORD_BITS (8 * sizeof(unsigned long))
#define MPOL_PREFERRED 1

struct set {
    unsigned long bits[CPUS_MAX / WORD_BITS];
};

static struct {
    int n;
    bool fake;
    struct {
        int id, cpus;
        struct set set;
    } node[FEN__NODES_MAX];
    struct set all;
} nodes = {.n = 1};

static _Thread_local int entered __attribute__((tls_model("initial-exec"))) = -1;

/* ---- sets of numbers ---- */

static bool has(const struct set *s, unsigned i)
{
    return i < CPUS_MAX && (s->bits[i / WORD_BITS] >> i % WORD_BITS & 1);
}

/* Reads "0-3,8,10-11" into *ret; numbers beyond CPUS_MAX are left out. */
static void read_list(const char *text, struct set *ret)
{
    memset(ret, 0, sizeof *ret);
    while (*text >= '0' && *text <= '9') {
        char *end;
        unsigned long from = strtoul(text, &end, 10), to = from;
        if (*end == '-')
            to = strtoul(end + 1, &end, 10);
        for (; from <= to && from < CPUS_MAX; from++)
            ret->bits[from / WORD_BITS] |= 1ul << from % WORD_BITS;
        text = *end == ',' ? end + 1 : "";
    }
}

static bool read_file(const char *root, const char *name, struct set *ret)
{
    char path[256], text[4096];
    int n = snprintf(path, sizeof path, "%s/sys/devices/system/node/%s", root, name);
    ssize_t got = n < (int)sizeof path ? fen__sys_file_read(path, text, sizeof text - 1) : -1;
    if (got <= 0)
        return false;
    text[got] = 0;
    read_list(text, ret);
    return true;
}

static int count(const struct set *s)
{
    int n = 0;
    for (size_t i = 0; i < FEN__COUNT(s->bits); i++)
        n += __builtin_popcountl(s->bits[i]);
    return n;
}

/* ---- the nodes ---- */

/* Those of a node that the process may use; how many. */
static int usable(const char *root, int id, struct set *ret)
{
    char name[32];
    snprintf(name, sizeof name, "node%d/cpulist", id);
    if (!read_file(root, name, ret))
        return 0;
    for (size_t i = 0; i < FEN__COUNT(ret->bits); i++)
        ret->bits[i] &= nodes.all.bits[i];
    return count(ret);
}

static int look(const char *root)
{
    static struct set online; /* large for a stack */
    int n = 0;
    memset(&nodes.all, 0, sizeof nodes.all);
    if (syscall(SYS_sched_getaffinity, 0, sizeof nodes.all, &nodes.all) < 0 ||
        !read_file(root, "online", &online))
        return 1;
    for (unsigned id = 0; id < IDS_MAX; id++) {
        struct set mine;
        int cpus = has(&online, id) ? usable(root, (int)id, &mine) : 0;
        if (cpus && n == FEN__NODES_MAX)
            return 1;
        if (!cpus)
            continue;
        nodes.node[n].id = (int)id;
        nodes.node[n].cpus = cpus;
        nodes.node[n++].set = mine;
    }
    return n ? n : 1;
}

int fen__sys_nodes_open(const char *root, int fake)
{
    __atomic_store_n(&nodes.fake, fake > 0, __ATOMIC_RELAXED);
    int n = fake > 0 ? fake : look(root);
    for (int i = 0; fake > 0 && i < fake; i++)
        nodes.node[i].cpus = 1;
    __atomic_store_n(&nodes.n, n, __ATOMIC_RELEASE); /* other threads allocate meanwhile */
    return n;
}

int fen__sys_node_of(int i)
{
    int all = 0;
    if (nodes.n == 1)
        return 0;
    for (int k = 0; k < nodes.n; k++)
        all += nodes.node[k].cpus;
    if (!all)
        return 0;
    i %= all; /* more than processors: once more from the beginning */
    for (int round = 0;; round++)
        for (int k = 0; k < nodes.n; k++)
            if (nodes.node[k].cpus > round && i-- == 0)
                return k;
}

/* ---- threads ---- */

int fen__sys_node_enter(int node)
{
    const struct set *s = node < 0 ? &nodes.all : &nodes.node[node].set;
    if (nodes.n > 1 && !nodes.fake && node != entered &&
        syscall(SYS_sched_setaffinity, 0, sizeof *s, s))
        return -errno;
    entered = node;
    return 0;
}

int fen__sys_node_entered(void) { return entered; }

int fen__sys_node(void)
{
    unsigned cpu, id;
    int n = __atomic_load_n(&nodes.n, __ATOMIC_ACQUIRE); /* pairs with fen__sys_nodes_open */
    if (n == 1 || entered >= 0)
        return n == 1 ? 0 : entered;
    if (__atomic_load_n(&nodes.fake, __ATOMIC_RELAXED) || syscall(SYS_getcpu, &cpu, &id, NULL))
        return 0;
    for (int k = 0; k < n; k++)
        if (nodes.node[k].id == (int)id)
            return k;
    return 0;
}

const void *fen__sys_node_everywhere(size_t *ret_bytes)
{
    *ret_bytes = sizeof nodes.all;
    return nodes.n > 1 && !nodes.fake ? &nodes.all : NULL;
}

/* ---- memory ---- */

void fen__sys_node_prefer(void *p, size_t bytes, int node)
{
    unsigned long mask[IDS_MAX / WORD_BITS] = {0};
    if (nodes.n == 1 || nodes.fake)
        return;
    mask[(size_t)nodes.node[node].id / WORD_BITS] = 1ul << nodes.node[node].id % (int)WORD_BITS;
    syscall(SYS_mbind, p, bytes, MPOL_PREFERRED, mask, IDS_MAX + 1ul, 0u);
}
