/* worker.h - one generator thread: its connections and counters. */
#ifndef FEN_LOAD_WORKER_H
#define FEN_LOAD_WORKER_H

#include "load.h"
#include "resp.h"

#include <pthread.h>
#include <stdatomic.h>

enum conn_state { CONN_CLOSED, CONN_CONNECTING, CONN_OPEN };

struct flight {
    int64_t intended_ns, sent_ns;
};

struct conn {
    int fd;
    uint8_t state;
    bool in_idle;        /* stands in the idle ring, perhaps stale */
    bool answered;       /* since it was opened */
    uint16_t first, n;   /* the ring of requests in flight */
    struct flight *ring; /* conf->pipeline entries */
    int64_t retry_ns;    /* CLOSED: when to open; FEN_NEVER: stays closed */
    int64_t since_ns;    /* CONNECTING: since when */
    int64_t backoff_ns;  /* after an error; 0 again after an answer */
    char *out;           /* request bytes that the socket did not take */
    size_t out_n, out_at;
    struct resp resp;
};

struct worker {
    const struct load_conf *conf;
    pthread_t thread;
    int index, epoll;
    struct conn *conns;
    int conns_n, closed_n, lost_n; /* lost: closed for good */
    int *idle;                     /* open loop: ring of connections without work */
    int idle_first, idle_n;
    double due_ns, gap_ns; /* open loop: the next intended time, the mean gap */
    uint64_t rng, gap_rng;
    int tenant;
    char *head[LOAD_TENANTS_MAX + 1]; /* what follows the path, one for each tenant */
    size_t head_n[LOAD_TENANTS_MAX + 1];
    char *scratch, *body; /* pipeline requests; one body */
    char *buf;            /* what recv fills */
    int64_t start_ns, warm_ns, end_ns;
    bool measuring;
    int64_t begin_ns, begin_cpu_ns;
    int64_t in_flight, in_flight_since_ns;
    double in_flight_integral;
    struct load_result *res;
    atomic_bool quit;          /* set by the coordinator */
    atomic_bool dead;          /* no connection is left */
    _Atomic int64_t completed; /* read by the coordinator, relaxed: only a progress line */
    _Atomic int64_t failed;
};

/* 0, or -errno; worker_fini is right after either. */
int worker_init(struct worker *w, const struct load_conf *c, int index, int conns_n);
void worker_fini(struct worker *w);
/* The thread. start_ns, warm_ns and end_ns are set before. */
void *worker_main(void *arg);

/* conn.c: the life of a connection. */
void conn_open(struct worker *w, struct conn *c, int64_t now);
void conn_event(struct worker *w, struct conn *c, uint32_t events);
/* An error of the kind for each request in flight (at least one); the connection is closed. */
void conn_fail(struct worker *w, struct conn *c, enum load_error kind, int64_t now);
/* Sends n requests with these intended times (now each when intended is NULL). */
void conn_send(struct worker *w, struct conn *c, int n, const int64_t *intended, int64_t now);
/* worker.c: a connection without work; sends in a closed loop, waits its turn in an open one. */
void worker_feed(struct worker *w, struct conn *c, int64_t now);
void worker_in_flight(struct worker *w, int change, int64_t now);

#endif
