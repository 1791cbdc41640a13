/* trunk.c - pipelined connections to the back end, shared by the threads of a blocking server.
 *
 * Leader and followers: whoever asks appends its question and its place in the queue; if nobody is
 * sending, it becomes the leader, pauses for GATHER_NS so that others may join (on one core nobody
 * else runs during a send, and each would send alone), and then sends all that has gathered until
 * nothing is left. Its own answer takes far longer than the pause. One thread a trunk reads in bulk
 * and wakes each asker by the asker's own futex.
 *
 * The reader alone opens and closes the connection. When it breaks, who waits is asked for once
 * more on a new one (GET may be repeated), the second time answered 502. An asker whose time is up
 * breaks the connection: it is as stuck for those behind it. So a question always ends by the
 * reader's hand, and may lie on its asker's stack.
 *
 * Locking: lock guards all fields of a trunk but `in`; fd is closed only while nobody sends.
 *
 * Rejected: a sending thread (one more wake-up a send), a condition variable for each trunk (it
 * wakes everybody for one answer).
 */
#include "baseline.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { INPUT_BYTES = 1 << 16, GATHER_NS = 200000 };

struct question {
    struct question *behind;
    int64_t id;
    char *body;
    int result;
    bool repeated, late;
    _Atomic int done; /* futex */
};

struct text {
    char *data;
    size_t len, cap;
};

struct trunk {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct question *first, *last; /* in the order of their questions */
    struct text out, leaving;      /* gathering; being sent by the leader */
    int fd;
    bool sending;
    char *in; /* the reader's */
    size_t in_len;
};

static struct trunk *trunks;
static unsigned trunks_n;

static long futex(_Atomic int *word, int op, int value, const struct timespec *limit)
{
    return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, limit, NULL, 0);
}

static void finish(struct question *q, int result)
{
    _Atomic int *done = &q->done;
    q->result = result;
    atomic_store_explicit(done, 1, memory_order_release); /* pairs with wait_for; q may be gone */
    futex(done, FUTEX_WAKE, 1, NULL);
}

/* ---- askers ---- */

static bool put_question(struct text *t, int64_t id)
{
    if (t->cap - t->len < QUESTION_MAX_BYTES) {
        size_t cap = t->cap ? t->cap * 2 : 4096;
        char *data = realloc(t->data, cap);
        if (!data)
            return false;
        t->data = data;
        t->cap = cap;
    }
    t->len += quotes_question(id, t->data + t->len);
    return true;
}

static bool send_all(int fd, const struct text *t)
{
    for (size_t done = 0; done < t->len;) {
        ssize_t n = send(fd, t->data + done, t->len - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Until nothing has gathered. The lock is held, before and after, but not while sending. */
static void lead(struct trunk *t)
{
    const struct timespec gather = {.tv_nsec = GATHER_NS};
    t->sending = true;
    while (t->fd >= 0 && t->out.len) {
        pthread_mutex_unlock(&t->lock);
        nanosleep(&gather, NULL);
        pthread_mutex_lock(&t->lock);
        struct text full = t->out;
        t->out = t->leaving;
        t->leaving = full;
        t->out.len = 0;
        int fd = t->fd;
        pthread_mutex_unlock(&t->lock);
        bool ok = send_all(fd, &t->leaving);
        pthread_mutex_lock(&t->lock);
        if (!ok) {
            shutdown(t->fd, SHUT_RDWR); /* the reader takes it from here */
            break;
        }
    }
    t->sending = false;
    pthread_cond_signal(&t->changed);
}

static void wait_for(struct trunk *t, struct question *q)
{
    const struct timespec limit = {.tv_sec = WAIT_MAX_S};
    bool late = false;
    while (!atomic_load_explicit(&q->done, memory_order_acquire)) { /* pairs with finish */
        if (!futex(&q->done, FUTEX_WAIT, 0, late ? NULL : &limit) || errno != ETIMEDOUT)
            continue;
        late = true;
        pthread_mutex_lock(&t->lock);
        if (!atomic_load_explicit(&q->done, memory_order_acquire)) {
            q->late = true;
            if (t->fd >= 0)
                shutdown(t->fd, SHUT_RDWR);
        }
        pthread_mutex_unlock(&t->lock);
    }
}

int trunk_ask(int64_t id, char *body)
{
    struct trunk *t = &trunks[(unsigned)id % trunks_n];
    struct question q = {.id = id, .body = body};
    pthread_mutex_lock(&t->lock);
    if (t->fd >= 0 && !put_question(&t->out, id)) {
        pthread_mutex_unlock(&t->lock);
        return -500;
    }
    if (t->first)
        t->last->behind = &q;
    else
        t->first = &q;
    t->last = &q;
    if (t->fd < 0)
        pthread_cond_signal(&t->changed); /* the reader connects, and asks for all who wait */
    else if (!t->sending)
        lead(t);
    pthread_mutex_unlock(&t->lock);
    wait_for(t, &q);
    return q.result;
}

/* ---- the reader ---- */

/* With the lock: the queue is cut; who waited too long or twice leaves, the others stand again. */
static void sort_out(struct trunk *t, bool connected)
{
    struct question *q = t->first, *behind;
    t->first = NULL;
    t->out.len = 0;
    for (; q; q = behind) {
        behind = q->behind;
        q->behind = NULL;
        if (q->late || !connected || !put_question(&t->out, q->id)) {
            finish(q, q->late ? -504 : -502);
            continue;
        }
        if (t->first)
            t->last->behind = q;
        else
            t->first = q;
        t->last = q;
    }
}

/* The connection is gone. With the lock. */
static void disconnect(struct trunk *t)
{
    shutdown(t->fd, SHUT_RDWR); /* a sender returns at once */
    while (t->sending)
        pthread_cond_wait(&t->changed, &t->lock);
    close(t->fd);
    t->fd = -1;
    t->in_len = 0;
    struct question *q = t->first, *behind, **end = &t->first;
    for (; q; q = behind) {
        behind = q->behind;
        if (q->repeated || q->late) {
            finish(q, q->late ? -504 : -502);
            continue;
        }
        q->repeated = true;
        *end = t->last = q;
        end = &q->behind;
    }
    *end = NULL;
}

/* Waits until somebody asks, then connects. */
static void connect_for(struct trunk *t)
{
    while (!t->first)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
    int fd = quotes_connect();
    const struct timeval none = {0};
    if (fd >= 0) /* each asker has its own time */
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
    pthread_mutex_lock(&t->lock);
    sort_out(t, fd >= 0);
    t->fd = fd;
    if (fd >= 0 && t->out.len)
        lead(t);
}

/* Deals out the whole answers. False when nobody can say where one ends, or none was asked for. */
static bool deal(struct trunk *t)
{
    size_t used = 0, n;
    while (used < t->in_len) {
        pthread_mutex_lock(&t->lock);
        struct question *q = t->first;
        pthread_mutex_unlock(&t->lock);
        int rc = q ? quotes_answer_first(q->id, t->in + used, t->in_len - used, q->body, &n) : -502;
        if (rc == 0)
            break;
        if (!q || n == 0)
            return false;
        used += n;
        pthread_mutex_lock(&t->lock);
        t->first = q->behind;
        pthread_mutex_unlock(&t->lock);
        finish(q, rc);
    }
    if (t->in_len - used >= ANSWER_MAX_BYTES)
        return false;
    memmove(t->in, t->in + used, t->in_len - used);
    t->in_len -= used;
    return true;
}

static void *read_answers(void *arg)
{
    struct trunk *t = arg;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        connect_for(t);
        if (t->fd < 0)
            continue;
        int fd = t->fd;
        pthread_mutex_unlock(&t->lock);
        ssize_t n;
        while ((n = recv(fd, t->in + t->in_len, INPUT_BYTES - t->in_len, 0)) > 0 ||
               (n < 0 && errno == EINTR)) {
            t->in_len += n > 0 ? (size_t)n : 0;
            if (!deal(t))
                break;
        }
        pthread_mutex_lock(&t->lock);
        disconnect(t);
    }
    return NULL;
}

int trunks_open(int n)
{
    pthread_attr_t attr;
    trunks = calloc((size_t)n, sizeof *trunks);
    trunks_n = (unsigned)n;
    if (!trunks)
        return -1;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < n; i++) {
        pthread_t reader;
        struct trunk *t = &trunks[i];
        pthread_mutex_init(&t->lock, NULL);
        pthread_cond_init(&t->changed, NULL);
        t->fd = -1;
        t->in = malloc(INPUT_BYTES);
        if (!t->in || pthread_create(&reader, &attr, read_answers, t))
            return -1;
    }
    pthread_attr_destroy(&attr);
    return 0;
}
