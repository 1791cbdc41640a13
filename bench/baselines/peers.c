/* peers.c - which connections are open, for the sake of a clean shutdown.
 *
 * One byte a descriptor. The mutex makes "marked, so still ours" true while peers_hang_up looks:
 * peers_close clears the mark before the number can be given to another socket. It is taken once
 * when a connection opens, once when it closes, never for a request.
 */
#include "baseline.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    unsigned char *open; /* [limit] */
    int limit;
    int count;    /* marks set */
    bool hung_up; /* whoever comes now is hung up at once */
} peers = {.lock = PTHREAD_MUTEX_INITIALIZER};

int peers_init(void)
{
    struct rlimit rl;
    if (getrlimit(RLIMIT_NOFILE, &rl))
        return -1;
    peers.limit = rl.rlim_cur > (1 << 24) ? 1 << 24 : (int)rl.rlim_cur;
    peers.open = calloc((size_t)peers.limit, 1);
    return peers.open ? 0 : -1;
}

void peers_add(int fd)
{
    pthread_mutex_lock(&peers.lock);
    if (fd < peers.limit)
        peers.open[fd] = 1;
    peers.count++;
    if (peers.hung_up)
        shutdown(fd, SHUT_RD);
    pthread_mutex_unlock(&peers.lock);
}

void peers_close(int fd)
{
    pthread_mutex_lock(&peers.lock);
    if (fd < peers.limit)
        peers.open[fd] = 0;
    peers.count--;
    pthread_mutex_unlock(&peers.lock);
    close(fd);
}

void peers_hang_up(void)
{
    pthread_mutex_lock(&peers.lock);
    peers.hung_up = true;
    for (int fd = 0; fd < peers.limit; fd++)
        if (peers.open[fd])
            shutdown(fd, SHUT_RD);
    pthread_mutex_unlock(&peers.lock);
}

static int peers_left(void)
{
    pthread_mutex_lock(&peers.lock);
    int n = peers.count;
    pthread_mutex_unlock(&peers.lock);
    return n;
}

bool peers_drain(void)
{
    const struct timespec step = {.tv_nsec = 5000000};
    for (int i = 0; i < DRAIN_MAX_S * 200 && peers_left(); i++)
        nanosleep(&step, NULL);
    return !peers_left();
}
