/* clock_test.c - naps last, and the calibration's does, whatever signals come meanwhile. */
#include "sys/sys.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/time.h>

#include <cmocka.h>

static volatile sig_atomic_t came;

static void on_alarm(int sig)
{
    (void)sig;
    came++;
}

/* Each tenth of a millisecond until it is called with false. */
static void alarms(bool on)
{
    struct sigaction sa = {.sa_handler = on_alarm};
    struct itimerval every = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &sa, NULL);
    assert_int_equal(setitimer(ITIMER_REAL, on ? &every : &never, NULL), 0);
}

/* First: it calibrates once. */
static void test_calibration_takes_its_span(void **state)
{
    (void)state;
    alarms(true);
    int64_t t = fen__sys_now();
    fen__tsc_init();
    int64_t took = fen__sys_now() - t;
    alarms(false);
    assert_true(took >= 3 * FEN_MS);
    assert_true(came > 0);
}

static void test_a_nap_lasts(void **state)
{
    (void)state;
    came = 0;
    alarms(true);
    int64_t t = fen__sys_now();
    fen__sys_nap(20 * FEN_MS);
    int64_t took = fen__sys_now() - t;
    alarms(false);
    assert_true(took >= 20 * FEN_MS);
    assert_true(came > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calibration_takes_its_span),
        cmocka_unit_test(test_a_nap_lasts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
