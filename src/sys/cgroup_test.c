/* cgroup_test.c - quotas from made-up files. */
#include "sys/cgroup.h"
#include "sys/sys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/fen_cgroup_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", root);
    return system(cmd);
}

static void put(const char *path, const char *text)
{
    char file[512];
    int n = snprintf(file, sizeof file, "%s%s", root, path);
    for (int i = (int)strlen(root) + 1; i < n; i++)
        if (file[i] == '/') {
            file[i] = 0;
            mkdir(file, 0755);
            file[i] = '/';
        }
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#define V2 "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define OTHER "23 28 0:21 / /sys rw - sysfs sysfs rw\n30 23 0:27 / /x rw - tmpfs tmpfs rw,cpu\n"

static void v2_takes_the_smallest_on_the_way_up(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/proc/self/mountinfo", OTHER V2);
    assert_int_equal(fen__sys_cgroup_cores(root), 0);
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 0);
    put("/sys/fs/cgroup/a/cpu.max", "350000 100000\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 4);
    put("/sys/fs/cgroup/a/b/cpu.max", "150000 100000\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 2);
    put("/sys/fs/cgroup/cpu.max", "1000 100000\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 1);
    put("/cpu.max", "1 1\n"); /* above the mount: not looked at */
    put("/sys/fs/cgroup/cpu.max", "600000 100000\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 2);
}

static void v1_has_two_files(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "11:memory:/m\n4:cpu,cpuacct:/docker/c1\n3:cpuset:/s\n0::/u\n");
    put("/proc/self/mountinfo",
        OTHER V2 "31 23 0:28 /docker/c1 /cg/cpu\\040x rw - cgroup cgroup rw,cpu,cpuacct\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 0);
    put("/cg/cpu x/cpu.cfs_quota_us", "-1\n");
    put("/cg/cpu x/cpu.cfs_period_us", "100000\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 0);
    put("/cg/cpu x/cpu.cfs_quota_us", "250000\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 3);
    put("/cg/cpu x/cpu.cfs_quota_us", "300000\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 3);
}

static void a_container_sees_a_part(void **state)
{
    (void)state;
    put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
    put("/sys/fs/cgroup/in/cpu.max", "100000 100000\n");
    put("/proc/self/mountinfo", "29 23 0:26 /kube/pod /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    put("/proc/self/cgroup", "0::/kube/pod\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 2);
    put("/proc/self/cgroup", "0::/kube/pod/in\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 1);
    put("/proc/self/cgroup", "0::/kube/podium/in\n"); /* shares letters, not a directory */
    assert_int_equal(fen__sys_cgroup_cores(root), 2);
    put("/proc/self/mountinfo", V2);
    put("/proc/self/cgroup", "0::/../outside\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 2);
}

static void nonsense_is_no_quota(void **state)
{
    (void)state;
    static const char *texts[] = {"",    "\n",        "max",   "0 100000",
                                  "1 0", "-5 100000", "x y z", "99999999999999999999999999 1",
                                  "1",   "100000 -1"};
    char self[64] = "0::/";
    put("/proc/self/mountinfo", V2);
    for (size_t i = 0; i < FEN__COUNT(texts); i++) {
        put("/proc/self/cgroup", self);
        put("/sys/fs/cgroup/cpu.max", texts[i]);
        int n = fen__sys_cgroup_cores(root);
        assert_true(i == 7 ? n > 1000 : n == 0);
    }
    put("/proc/self/cgroup", "nonsense\n:\n::\n0:\n");
    assert_int_equal(fen__sys_cgroup_cores(root), 0);
    put("/proc/self/cgroup", "0::/\n");
    put("/proc/self/mountinfo", "- - -\n1 2 3 - cgroup2\n - cgroup2 \n");
    (void)fen__sys_cgroup_cores(root); /* must only not crash */
    assert_int_equal(fen__sys_cgroup_cores("/no/such/root"), 0);
}

static void this_machine_has_at_least_one_core(void **state)
{
    (void)state;
    int n = fen__sys_cpus_allowed(), quota = fen__sys_cgroup_cores("");
    assert_true(n >= 1);
    assert_true(quota == 0 || n <= quota);
    assert_true(n <= sysconf(_SC_NPROCESSORS_CONF));
}

static void memory_is_the_smallest_too(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/proc/self/mountinfo", OTHER V2);
    put("/sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_int_equal(fen__sys_cgroup_memory(root), 0);
    put("/sys/fs/cgroup/a/memory.max", "67108864\n");
    assert_int_equal(fen__sys_cgroup_memory(root), 67108864);
    put("/sys/fs/cgroup/a/b/memory.max", "134217728\n");
    assert_int_equal(fen__sys_cgroup_memory(root), 67108864);
    put("/proc/self/cgroup", "5:memory:/c1\n4:cpu,cpuacct:/docker/c1\n0::/a/b\n");
    put("/proc/self/mountinfo",
        OTHER V2 "31 23 0:28 / /cg/memory rw - cgroup cgroup rw,memory\n"
                 "32 23 0:29 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n");
    put("/cg/memory/c1/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    assert_int_equal(fen__sys_cgroup_memory(root), 0);
    put("/cg/memory/c1/memory.limit_in_bytes", "33554432\n");
    assert_int_equal(fen__sys_cgroup_memory(root), 33554432);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(v2_takes_the_smallest_on_the_way_up, setup, teardown),
        cmocka_unit_test_setup_teardown(v1_has_two_files, setup, teardown),
        cmocka_unit_test_setup_teardown(a_container_sees_a_part, setup, teardown),
        cmocka_unit_test_setup_teardown(nonsense_is_no_quota, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_is_the_smallest_too, setup, teardown),
        cmocka_unit_test(this_machine_has_at_least_one_core),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
