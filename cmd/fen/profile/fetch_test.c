/* fetch_test.c - what is said when nothing can be fetched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "profile/profile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void no_descriptor_is_named(void **state)
{
    (void)state;
    char said[256] = "", *p;
    size_t n;
    struct rlimit was, none;
    FILE *f = tmpfile();
    int err = dup(STDERR_FILENO);
    assert_true(f && err >= 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    none = (struct rlimit){0, was.rlim_max};
    dup2(fileno(f), STDERR_FILENO);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int rc = fetch("heap", "http://127.0.0.1:1/x", &p, &n);
    setrlimit(RLIMIT_NOFILE, &was);
    fflush(stderr);
    dup2(err, STDERR_FILENO);
    close(err);
    rewind(f);
    (void)!fread(said, 1, sizeof said - 1, f);
    fclose(f);
    assert_int_equal(rc, 2);
    assert_non_null(strstr(said, strerror(EMFILE)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_descriptor_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
