/* memory_test.c - a map beyond the limit of locked memory is memory that is not there. */
#include "base/sanitize.h"
#include "sys/sys.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { FITS, WRONG, REFUSED = 77 };

/* Root may lock what it likes, so the child is nobody. */
static int map_beyond_the_limit(void)
{
    void *p;
    if (setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){64 << 10, 64 << 10}) ||
        (getuid() == 0 && setuid(65534)) || mlockall(MCL_FUTURE))
        return REFUSED;
    int rc = fen__sys_map(1 << 20, &p);
    if (rc == -ENOMEM)
        return FITS;
    fprintf(stderr, "fen__sys_map: %d\n", rc);
    return WRONG;
}

static void test_beyond_the_limit_of_locked_memory(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(map_beyond_the_limit());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == REFUSED)
        skip();
    assert_int_equal(WEXITSTATUS(status), FITS);
}

int main(void)
{
#if defined(FEN__ASAN) || defined(FEN__TSAN)
    puts("skipped: a sanitizer's shadow cannot be locked");
    return 77;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beyond_the_limit_of_locked_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
