/* threads.c - the same with POSIX threads: a message over a hand-over of a mutex and conditions, a
 * round trip, a receiver that waits for either of two, a timer of the kernel, a thread started and
 * joined; on one core where the fibers are on one P. Then threads that wait, and a tree of them. */
#include "bench.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define MESSAGES 20000
#define STARTS 5000

static double per(int n, double from) { return (now_s() - from) * 1e9 / n; }

static void on_one_core(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
}

/* An unbuffered channel: put returns when the value was taken. */
struct hand_over {
    pthread_mutex_t lock;
    pthread_cond_t put, taken;
    int64_t value;
    bool full;
};
#define HAND_OVER                                                                                  \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, false    \
    }
static struct hand_over there = HAND_OVER, back = HAND_OVER;

static void put(struct hand_over *h, int64_t value)
{
    pthread_mutex_lock(&h->lock);
    h->value = value;
    h->full = true;
    pthread_cond_signal(&h->put);
    while (h->full)
        pthread_cond_wait(&h->taken, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

static int64_t take(struct hand_over *h)
{
    pthread_mutex_lock(&h->lock);
    while (!h->full)
        pthread_cond_wait(&h->put, &h->lock);
    int64_t value = h->value;
    h->full = false;
    pthread_cond_signal(&h->taken);
    pthread_mutex_unlock(&h->lock);
    return value;
}

static void *produce(void *arg)
{
    for (int64_t i = 0; i < MESSAGES; i++)
        put(&there, i);
    return arg;
}

static void *echo(void *arg)
{
    for (int64_t i = 0; i < MESSAGES; i++)
        put(&back, take(&there));
    return arg;
}

static double messages(void)
{
    pthread_t t;
    int64_t sum = 0;
    double from = now_s();
    if (pthread_create(&t, NULL, produce, NULL))
        return NAN;
    for (int i = 0; i < MESSAGES; i++)
        sum += take(&there);
    double ns = per(MESSAGES, from);
    pthread_join(t, NULL);
    return sum == (int64_t)MESSAGES * (MESSAGES - 1) / 2 ? ns : NAN;
}

static double trips(void)
{
    pthread_t t;
    int64_t bad = 0;
    double from = now_s();
    if (pthread_create(&t, NULL, echo, NULL))
        return NAN;
    for (int64_t i = 0; i < MESSAGES; i++) {
        put(&there, i);
        bad += take(&back) != i;
    }
    double ns = per(MESSAGES, from);
    pthread_join(t, NULL);
    return bad ? NAN : ns;
}

/* In the places of the fibers' figures: a message, a round trip; no first rounds. */
void threads_channel(void *arg, double *out)
{
    (void)arg;
    on_one_core();
    out[0] = messages();
    out[1] = NAN;
    out[2] = trips();
    out[3] = NAN;
}

static void *nothing(void *arg) { return arg; }

void threads_spawn(void *arg, double *out)
{
    (void)arg;
    on_one_core();
    double from = now_s();
    for (int i = 0; i < STARTS; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, nothing, NULL)) {
            *out = NAN;
            return;
        }
        pthread_join(t, NULL);
    }
    *out = per(STARTS, from);
}

/* ---- select ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t put, taken;
    int64_t value[2];
    bool full[2];
} either = {.lock = PTHREAD_MUTEX_INITIALIZER,
            .put = PTHREAD_COND_INITIALIZER,
            .taken = PTHREAD_COND_INITIALIZER};

static void *alternate(void *arg)
{
    for (int64_t i = 0; i < MESSAGES; i++) {
        pthread_mutex_lock(&either.lock);
        either.value[i % 2] = i;
        either.full[i % 2] = true;
        pthread_cond_signal(&either.put);
        while (either.full[i % 2])
            pthread_cond_wait(&either.taken, &either.lock);
        pthread_mutex_unlock(&either.lock);
    }
    return arg;
}

static int64_t take_either(void)
{
    pthread_mutex_lock(&either.lock);
    while (!either.full[0] && !either.full[1])
        pthread_cond_wait(&either.put, &either.lock);
    int at = !either.full[0];
    int64_t value = either.value[at];
    either.full[at] = false;
    pthread_cond_signal(&either.taken);
    pthread_mutex_unlock(&either.lock);
    return value;
}

void threads_select(void *arg, double *out)
{
    pthread_t t;
    int64_t sum = 0;
    (void)arg;
    on_one_core();
    double from = now_s();
    *out = NAN;
    if (pthread_create(&t, NULL, alternate, NULL))
        return;
    for (int i = 0; i < MESSAGES; i++)
        sum += take_either();
    double ns = per(MESSAGES, from);
    pthread_join(t, NULL);
    if (sum == (int64_t)MESSAGES * (MESSAGES - 1) / 2)
        *out = ns;
}

/* ---- timer ---- */

#define TIMERS 200000

/* A timerfd set an hour ahead and unset. */
void threads_timer(void *arg, double *out)
{
    struct itimerspec hour = {.it_value.tv_sec = 3600}, none = {.it_value.tv_sec = 0};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    int bad = 0;
    (void)arg;
    on_one_core();
    double from = now_s();
    for (int i = 0; i < TIMERS; i++)
        bad += timerfd_settime(fd, 0, &hour, NULL) || timerfd_settime(fd, 0, &none, NULL);
    *out = bad ? NAN : per(TIMERS, from);
    close(fd);
}

/* ---- threads that wait ---- */

static sem_t started, end;

static void *wait_for_end(void *arg)
{
    sem_post(&started);
    while (sem_wait(&end))
        ;
    return arg;
}

/* Bytes resident for each; the kernel's own stack of each thread is not in them. */
void threads_idle(void *arg, double *out)
{
    int n = *(const int *)arg, have = 0;
    pthread_t *t = calloc((size_t)n, sizeof *t);
    int64_t before = own_rss();
    sem_init(&started, 0, 0);
    sem_init(&end, 0, 0);
    while (t && have < n && !pthread_create(&t[have], NULL, wait_for_end, NULL))
        have++;
    for (int i = 0; i < have; i++)
        while (sem_wait(&started))
            ;
    *out = have == n ? (double)(own_rss() - before) / n : NAN;
    for (int i = 0; i < have; i++)
        sem_post(&end);
    for (int i = 0; i < have; i++)
        pthread_join(t[i], NULL);
    free(t);
}

/* ---- skynet ---- */

#define FAN 10

struct branch {
    int64_t from, leaves, sum;
};

static void *grow(void *arg)
{
    struct branch *b = arg;
    struct branch child[FAN];
    pthread_t t[FAN];
    if (b->leaves == 1) {
        b->sum = b->from;
        return arg;
    }
    for (int i = 0; i < FAN; i++) {
        child[i] = (struct branch){b->from + i * (b->leaves / FAN), b->leaves / FAN, 0};
        if (pthread_create(&t[i], NULL, grow, &child[i]))
            _exit(1);
    }
    for (int i = 0; i < FAN; i++) {
        pthread_join(t[i], NULL);
        b->sum += child[i].sum;
    }
    return arg;
}

/* Milliseconds of a tree of *arg leaves; sums are joined for, not sent. */
void threads_skynet(void *arg, double *out)
{
    int64_t leaves = *(const int64_t *)arg;
    for (int i = 0; i < 2; i++) {
        struct branch root = {0, leaves, 0};
        double from = now_s();
        grow(&root);
        out[i] = root.sum == leaves * (leaves - 1) / 2 ? (now_s() - from) * 1e3 : NAN;
    }
}
