/* threads.c - the same with POSIX threads, on one core as the fibers are on one P: a message over a
 * hand-over of a mutex and conditions, a round trip, a thread started and joined. */
#include "bench.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

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
