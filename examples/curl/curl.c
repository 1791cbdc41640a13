/* curl.c - several transfers at once with libcurl, each in a fiber of its own.
 *
 *     build/release/example_curl http://127.0.0.1:8080/hello/1 http://127.0.0.1:8080/hello/2
 *
 * libcurl's multi interface never blocks: it says which sockets it wants to hear of, and when it
 * wants to be called at the latest. Both go into fen_fd_wait. An epoll descriptor of its own stands
 * for all sockets of a transfer, so it does not matter how many there are and when libcurl closes
 * them. No call of fen is made inside libcurl's callbacks that could park. */
#include <fen/fen.h>

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

struct transfer {
    const char *url;
    CURLM *multi;
    int sockets; /* epoll descriptor */
    int64_t due_ns;
    size_t bytes;
    long status;
    int rc; /* 0, -errno or a CURLcode */
};

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
    struct transfer *t = arg;
    struct epoll_event ev = {.data.fd = fd};
    (void)easy;
    (void)unused;
    ev.events |= what & CURL_POLL_IN ? EPOLLIN : 0;
    ev.events |= what & CURL_POLL_OUT ? EPOLLOUT : 0;
    if (what == CURL_POLL_REMOVE)
        epoll_ctl(t->sockets, EPOLL_CTL_DEL, fd, NULL);
    else if (epoll_ctl(t->sockets, EPOLL_CTL_MOD, fd, &ev))
        return epoll_ctl(t->sockets, EPOLL_CTL_ADD, fd, &ev);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
    struct transfer *t = arg;
    (void)multi;
    t->due_ns = ms < 0 ? FEN_NEVER : fen_now() + ms * FEN_MS;
    return 0;
}

static size_t on_bytes(char *p, size_t one, size_t n, void *arg)
{
    struct transfer *t = arg;
    (void)p;
    t->bytes += one * n;
    return one * n;
}

static void tell(struct transfer *t, int *ret_running)
{
    struct epoll_event ev[16];
    int n = epoll_wait(t->sockets, ev, 16, 0);
    for (int i = 0; i < n; i++) {
        int what = (ev[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                   (ev[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (ev[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        curl_multi_socket_action(t->multi, ev[i].data.fd, what, ret_running);
    }
}

/* 0, or why the scope ended it. */
static int drive(struct transfer *t)
{
    int running = 1;
    curl_multi_socket_action(t->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    while (running) {
        int rc = fen_fd_wait(t->sockets, FEN_FD_READ, t->due_ns);
        if (rc == -ETIMEDOUT && fen_scope_check(NULL) == 0) {
            t->due_ns = FEN_NEVER;
            curl_multi_socket_action(t->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        } else if (rc < 0) {
            return rc;
        } else {
            tell(t, &running);
        }
    }
    return 0;
}

static void transfer(struct transfer *t, CURL *easy)
{
    int left;
    curl_easy_setopt(easy, CURLOPT_URL, t->url);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    curl_multi_setopt(t->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(t->multi, CURLMOPT_SOCKETDATA, t);
    curl_multi_setopt(t->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(t->multi, CURLMOPT_TIMERDATA, t);
    curl_multi_add_handle(t->multi, easy);
    t->rc = drive(t);
    CURLMsg *m = curl_multi_info_read(t->multi, &left);
    if (m && m->msg == CURLMSG_DONE)
        t->rc = (int)m->data.result;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &t->status);
    curl_multi_remove_handle(t->multi, easy);
}

static void fetch(void *arg)
{
    struct transfer *t = arg;
    CURL *easy = curl_easy_init();
    t->multi = curl_multi_init();
    t->sockets = epoll_create1(EPOLL_CLOEXEC);
    t->due_ns = FEN_NEVER;
    if (easy && t->multi && t->sockets >= 0)
        transfer(t, easy);
    else
        t->rc = -ENOMEM;
    curl_easy_cleanup(easy);
    curl_multi_cleanup(t->multi);
    if (t->sockets >= 0)
        close(t->sockets);
}

struct job {
    int n;
    char **urls;
};

static int app(void *arg)
{
    struct job *j = arg;
    struct transfer *t = calloc((size_t)j->n, sizeof *t);
    fen_scope *scope = t ? fen_scope_open(fen_now() + 10 * FEN_S) : NULL;
    if (!scope) {
        free(t);
        return -ENOMEM;
    }
    int bad = 0;
    for (int i = 0; i < j->n; i++) {
        t[i].url = j->urls[i];
        int rc = fen_go(fetch, &t[i]);
        if (rc) /* else t[i] is the fiber's until the scope is closed */
            t[i].rc = rc;
    }
    bad += fen_scope_close(scope) != 0;
    for (int i = 0; i < j->n; i++) {
        printf("%s: status %ld, %zu bytes%s%s\n", t[i].url, t[i].status, t[i].bytes,
               t[i].rc ? ", " : "",
               t[i].rc < 0   ? fen_strerror(t[i].rc)
               : t[i].rc > 0 ? curl_easy_strerror((CURLcode)t[i].rc)
                             : "");
        bad += t[i].rc != 0;
    }
    free(t);
    return bad ? -EIO : 0;
}

int main(int argc, char **argv)
{
    struct job j = {argc - 1, argv + 1};
    curl_global_init(CURL_GLOBAL_ALL);
    int rc = fen_run(app, &j, NULL);
    curl_global_cleanup();
    return rc < 0;
}
