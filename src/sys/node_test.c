/* node_test.c - NUMA nodes from made-up files, and threads that are bound to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sys/node.h"
#include "sys/process.h"
#include "sys/sys.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[64];

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/sys/devices/system/node/%s", root, name);
    for (char *s = path + strlen(root) + 1; (s = strchr(s, '/')); *s++ = '/') {
        *s = 0;
        mkdir(path, 0755);
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/fen_node_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", root);
    (void)fen__sys_node_enter(-1);
    (void)fen__sys_nodes_open("", 1);
    return system(cmd);
}

/* The first two processors that the process may use, -1: there are not so many. */
static int cpu[2] = {-1, -1};

static void find_cpus(void)
{
    cpu_set_t mine;
    assert_int_equal(sched_getaffinity(0, sizeof mine, &mine), 0);
    for (int i = 0, n = 0; i < CPU_SETSIZE && n < 2; i++)
        if (CPU_ISSET(i, &mine))
            cpu[n++] = i;
}

static void two_nodes(void)
{
    char list[64];
    put("online", "0,3\n");
    snprintf(list, sizeof list, "%d\n", cpu[0]);
    put("node0/cpulist", list);
    snprintf(list, sizeof list, "%d-%d,4000-4095\n", cpu[1], cpu[1]);
    put("node3/cpulist", list);
}

static int allowed(void)
{
    cpu_set_t mine;
    assert_int_equal(sched_getaffinity(0, sizeof mine, &mine), 0);
    int n = CPU_COUNT(&mine);
    for (int i = 0; n == 1 && i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &mine))
            return i;
    return -n;
}

static void what_cannot_be_read_is_one_node(void **state)
{
    (void)state;
    assert_int_equal(fen__sys_nodes_open(root, 0), 1);
    put("online", "rubbish\n");
    assert_int_equal(fen__sys_nodes_open(root, 0), 1);
    put("online", "0-1\n");
    assert_int_equal(fen__sys_nodes_open(root, 0), 1); /* no lists of processors */
    put("node0/cpulist", "4095\n");
    put("node1/cpulist", "\n"); /* memory alone */
    assert_int_equal(fen__sys_nodes_open(root, 0), 1);
    assert_int_equal(fen__sys_node_of(7), 0);
    assert_int_equal(fen__sys_node(), 0);
    put("online", "0-19\n");
    char name[32], list[32];
    snprintf(list, sizeof list, "%d\n", cpu[0]);
    for (int i = 0; i < 20; i++) { /* more than fit */
        snprintf(name, sizeof name, "node%d/cpulist", i);
        put(name, list);
    }
    assert_int_equal(fen__sys_nodes_open(root, 0), 1);
    put("online", "0-15\n");
    assert_int_equal(fen__sys_nodes_open(root, 0), 16);
}

static void a_thread_is_bound_and_let_go(void **state)
{
    (void)state;
    int before = allowed();
    if (cpu[1] < 0)
        skip();
    two_nodes();
    assert_int_equal(fen__sys_nodes_open(root, 0), 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fen__sys_node_enter(i), 0);
        assert_int_equal(fen__sys_node(), i);
        assert_int_equal(allowed(), cpu[i]);
    }
    assert_int_equal(fen__sys_node_enter(-1), 0);
    assert_int_equal(allowed(), before);
    assert_int_equal(fen__sys_node_entered(), -1);
}

static void *where(void *ret)
{
    *(int *)ret = allowed();
    return NULL;
}

/* The child says by its exit code how many processors it has. */
static int count_of_child(void)
{
    const char *argv[] = {"sh", "-c", "exit $(nproc)", NULL};
    struct fen__sys_child how = {.file = "sh", .argv = argv, .fd = {0, 1, 2}};
    int pid, pidfd, code = -1, sig = 0;
    assert_int_equal(fen__sys_child_start(&how, &pid, &pidfd), 0);
    while (fen__sys_child_reap(pidfd, &code, &sig) == -EAGAIN)
        fen__sys_nap(FEN_MS);
    close(pidfd);
    return code;
}

static void what_a_bound_thread_starts_is_free(void **state)
{
    (void)state;
    int before = allowed(), seen = 0;
    pthread_t t;
    if (cpu[1] < 0)
        skip();
    two_nodes();
    assert_int_equal(fen__sys_nodes_open(root, 0), 2);
    assert_int_equal(fen__sys_node_enter(1), 0);
    assert_int_equal(fen__sys_thread(&t, 256 << 10, where, &seen), 0);
    pthread_join(t, NULL);
    assert_int_equal(seen, before);
    assert_int_equal(count_of_child(), -before);
    assert_int_equal(allowed(), cpu[1]);
    assert_int_equal(fen__sys_node(), 1);
}

static void work_is_spread_by_processors(void **state)
{
    (void)state;
    static const int of_fake[] = {0, 1, 2, 0, 1, 2};
    assert_int_equal(fen__sys_nodes_open(root, 3), 3);
    for (int i = 0; i < 6; i++)
        assert_int_equal(fen__sys_node_of(i), of_fake[i]);
    if (cpu[1] < 0)
        skip();
    put("online", "0-1\n");
    char list[64]; /* the first has both, the second one of them */
    snprintf(list, sizeof list, "%d,%d\n", cpu[0], cpu[1]);
    put("node0/cpulist", list);
    snprintf(list, sizeof list, "%d\n", cpu[1]);
    put("node1/cpulist", list);
    static const int of_3[] = {0, 1, 0, 0, 1, 0};
    assert_int_equal(fen__sys_nodes_open(root, 0), 2);
    for (int i = 0; i < 6; i++)
        assert_int_equal(fen__sys_node_of(i), of_3[i]);
}

/* The kernel takes the call: the policy is seen in the map of the process. */
static void memory_gets_its_preference(void **state)
{
    (void)state;
    void *p;
    if (cpu[1] < 0)
        skip();
    two_nodes();
    assert_int_equal(fen__sys_nodes_open(root, 0), 2);
    assert_int_equal(fen__sys_map(1 << 20, &p), 0);
    fen__sys_node_prefer(p, 1 << 20, 0);
    FILE *f = fopen("/proc/self/numa_maps", "r");
    if (!f)
        skip();
    char line[512], start[32];
    bool found = false;
    snprintf(start, sizeof start, "%llx prefer", (unsigned long long)(uintptr_t)p);
    while (fgets(line, sizeof line, f))
        found |= !strncmp(line, start, strlen(start));
    fclose(f);
    fen__sys_unmap(p, 1 << 20);
    assert_true(found);
}

#define IN_ROOT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_ROOT(what_cannot_be_read_is_one_node),    IN_ROOT(a_thread_is_bound_and_let_go),
        IN_ROOT(what_a_bound_thread_starts_is_free), IN_ROOT(work_is_spread_by_processors),
        IN_ROOT(memory_gets_its_preference),
    };
    find_cpus();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
