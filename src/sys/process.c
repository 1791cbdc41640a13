/* process.c - child processes. posix_spawn runs the child on a stack of its own and without copying
 * the address space; a pidfd opened by the parent before it reaps cannot mean another process. */
#include "sys/process.h"

#include "sys/node.h"
#include "sys/sys_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIRST_FREE 3
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

extern char **environ;

static int fault(const char *call) { return fen__sys_fault ? fen__sys_fault(call) : 0; }

/* The three go above 2 first, so that the order in which they become 0, 1, 2 cannot matter. */
static int copy_up(const int *fd, int *ret)
{
    for (int i = 0; i < 3; i++) {
        ret[i] = fcntl(fd[i], F_DUPFD_CLOEXEC, FIRST_FREE);
        if (ret[i] < 0) {
            int rc = -errno;
            while (i-- > 0)
                close(ret[i]);
            return rc;
        }
    }
    return 0;
}

static int actions(posix_spawn_file_actions_t *fa, const struct fen__sys_child *how, const int *up)
{
    int rc = 0;
    for (int i = 0; i < 3 && !rc; i++)
        rc = posix_spawn_file_actions_adddup2(fa, up[i], i);
    if (!rc && how->cwd)
        rc = posix_spawn_file_actions_addchdir_np(fa, how->cwd);
    if (!rc) /* what the host opened without close-on-exec is not the child's business */
        rc = posix_spawn_file_actions_addclosefrom_np(fa, FIRST_FREE);
    return -rc;
}

static int attributes(posix_spawnattr_t *at, const struct fen__sys_child *how)
{
    sigset_t none, pipe_only;
    sigemptyset(&none);
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    if (how->group)
        flags |= POSIX_SPAWN_SETPGROUP;
    posix_spawnattr_setsigmask(at, &none);
    posix_spawnattr_setsigdefault(at, &pipe_only);
    posix_spawnattr_setpgroup(at, 0);
    return -posix_spawnattr_setflags(at, flags);
}

static int spawn(const struct fen__sys_child *how, const int *up, int *ret_pid)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    pid_t pid = 0;
    int rc = -posix_spawn_file_actions_init(&fa);
    if (rc)
        return rc;
    rc = -posix_spawnattr_init(&at);
    if (!rc) {
        rc = actions(&fa, how, up);
        if (!rc)
            rc = attributes(&at, how);
        if (!rc)
            rc = fault("spawn");
        int node = fen__sys_node_entered();
        if (node >= 0) /* a child may run everywhere */
            (void)!fen__sys_node_enter(-1);
        if (!rc)
            rc = -posix_spawnp(&pid, how->file, &fa, &at, (char *const *)(uintptr_t)how->argv,
                               how->env ? (char *const *)(uintptr_t)how->env : environ);
        if (node >= 0)
            (void)!fen__sys_node_enter(node);
        posix_spawnattr_destroy(&at);
    }
    posix_spawn_file_actions_destroy(&fa);
    *ret_pid = pid;
    return rc;
}

int fen__sys_child_start(const struct fen__sys_child *how, int *ret_pid, int *ret_pidfd)
{
    int up[3] = {-1, -1, -1}, pid = 0, rc = copy_up(how->fd, up);
    if (rc)
        return rc;
    rc = spawn(how, up, &pid);
    for (int i = 0; i < 3; i++)
        close(up[i]);
    if (rc)
        return rc;
    rc = fault("pidfd_open");
    int fd = rc ? rc : fen__sys_own_fd((int)syscall(SYS_pidfd_open, pid, 0));
    if (fd < 0) {
        rc = fd;
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return rc;
    }
    *ret_pid = pid;
    *ret_pidfd = fd;
    return 0;
}

int fen__sys_child_reap(int pidfd, int *ret_code, int *ret_signal)
{
    siginfo_t info = {.si_pid = 0};
    if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG))
        return -errno;
    if (info.si_pid == 0)
        return -EAGAIN;
    bool exited = info.si_code == CLD_EXITED;
    *ret_code = exited ? info.si_status : -1;
    *ret_signal = exited ? 0 : info.si_status;
    return 0;
}

int fen__sys_child_look(int pidfd)
{
    siginfo_t info;
    return waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | WNOWAIT) ? -errno : 0;
}

int fen__sys_child_kill(int pidfd, int signal)
{
    int rc = fault("kill");
    return rc ? rc : syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) ? -errno : 0;
}

void fen__sys_child_abandon(int pidfd)
{
    siginfo_t info;
    (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED) && errno == EINTR)
        ;
    close(pidfd);
}

int fen__sys_group_kill(int pid, int signal) { return kill(-pid, signal) ? -errno : 0; }

int fen__sys_child_pipe(int ours, int ret_fds[2])
{
    int rc = fault("pipe"), fds[2];
    if (rc)
        return rc;
    rc = pipe2(fds, O_CLOEXEC) ? -errno : fen__sys_own_pipe(fds);
    if (rc)
        return rc;
    if (fcntl(fds[ours], F_SETFL, O_NONBLOCK)) {
        rc = -errno;
        close(fds[0]);
        close(fds[1]);
        return rc;
    }
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

int fen__sys_open_null(void) { return fen__sys_own_fd(open("/dev/null", O_RDWR | O_CLOEXEC)); }

ssize_t fen__sys_write_quiet(int fd, const void *buf, size_t n)
{
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    bool ours =
        !sigismember(&old, SIGPIPE) && !sigpending(&pending) && !sigismember(&pending, SIGPIPE);
    ssize_t put = fen__sys_write(fd, buf, n);
    if (ours && put == -EPIPE) { /* take back what we raised */
        struct timespec zero = {0};
        while (sigtimedwait(&set, NULL, &zero) < 0 && errno == EINTR)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return put;
}

void fen__sys_block_sigpipe(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}
