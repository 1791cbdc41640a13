/* redis.c - hiredis in its non-blocking mode, one connection a fiber.
 *
 *     build/release/example_redis 127.0.0.1 6379
 *
 * hiredis keeps the buffers and the protocol; fen_fd_wait is what waits between its reads and
 * writes, and so every command honours the fiber's scope. */
#include <fen/fen.h>

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS 20

/* Sends what is appended, waits for one reply. 0, -errno, or -EPROTO for what hiredis refuses. */
static int one_reply(redisContext *c, redisReply **ret_reply)
{
    void *reply = NULL;
    int done = 0, rc;
    while (!done) {
        rc = fen_fd_wait(c->fd, FEN_FD_WRITE, FEN_NEVER);
        if (rc < 0)
            return rc;
        if (redisBufferWrite(c, &done) != REDIS_OK)
            return -EPIPE;
    }
    for (;;) {
        if (redisGetReplyFromReader(c, &reply) != REDIS_OK)
            return -EPROTO;
        if (reply) {
            *ret_reply = reply;
            return 0;
        }
        rc = fen_fd_wait(c->fd, FEN_FD_READ, FEN_NEVER);
        if (rc < 0)
            return rc;
        if (redisBufferRead(c) != REDIS_OK)
            return -ECONNRESET;
    }
}

struct client {
    const char *host;
    int port, number;
    int rc;
};

static int set_and_get(redisContext *c, int number)
{
    redisReply *r;
    redisAppendCommand(c, "SET key:%d value-%d", number, number);
    int rc = one_reply(c, &r);
    if (rc)
        return rc;
    bool ok = r->type == REDIS_REPLY_STATUS;
    freeReplyObject(r);
    redisAppendCommand(c, "GET key:%d", number);
    rc = ok ? one_reply(c, &r) : -EPROTO;
    if (rc)
        return rc;
    char want[32];
    snprintf(want, sizeof want, "value-%d", number);
    fen_slice got = {r->str, r->type == REDIS_REPLY_STRING ? r->len : 0};
    ok = got.n == strlen(want) && !memcmp(got.p, want, got.n);
    freeReplyObject(r);
    return ok ? 0 : -EBADMSG;
}

static void client_main(void *arg)
{
    struct client *k = arg;
    redisContext *c = redisConnectNonBlock(k->host, k->port);
    k->rc = !c ? -ENOMEM : c->err ? -ECONNREFUSED : set_and_get(c, k->number);
    if (c) /* no fiber waits for its descriptor any more */
        redisFree(c);
}

static int app(void *arg)
{
    char **argv = arg;
    struct client k[CLIENTS];
    int good = 0;
    fen_scope *scope = fen_scope_open(fen_now() + 10 * FEN_S);
    if (!scope)
        return -ENOMEM;
    for (int i = 0; i < CLIENTS; i++) {
        k[i] = (struct client){argv[1], atoi(argv[2]), i, 0};
        int rc = fen_go(client_main, &k[i]);
        if (rc) /* else k[i] is the fiber's until the scope is closed */
            k[i].rc = rc;
    }
    int ended = fen_scope_close(scope);
    for (int i = 0; i < CLIENTS; i++) {
        good += k[i].rc == 0;
        if (k[i].rc)
            printf("%s:%d, client %d: %s\n", k[i].host, k[i].port, i, fen_strerror(k[i].rc));
    }
    printf("%d of %d clients had their value back\n", good, CLIENTS);
    return ended ? ended : good == CLIENTS ? 0 : -EIO;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: example_redis HOST PORT\n");
        return 2;
    }
    return fen_run(app, argv, NULL) < 0;
}
