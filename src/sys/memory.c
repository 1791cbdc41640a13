/* memory.c - maps, guards and giving pages back. */
#include "base/sanitize.h"
#include "sys/sys.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#define PIDFD_SELF (-10001) /* the calling process */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */
#endif

#ifdef FEN__ASAN
/* Maps hold pointers to heap blocks; the leak checker must see them. */
void __lsan_register_root_region(const void *p, size_t n);
void __lsan_unregister_root_region(const void *p, size_t n);
void __asan_unpoison_memory_region(void const volatile *addr, size_t size);
#define ROOT_ADD(p, n) __lsan_register_root_region(p, n)
#define ROOT_DEL(p, n) __lsan_unregister_root_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define ROOT_ADD(p, n) ((void)0)
#define ROOT_DEL(p, n) ((void)0)
#define UNPOISON(p, n) ((void)0)
#endif

static int map(size_t bytes, int flags, void **ret_p)
{
    int rc = fen__sys_fault ? fen__sys_fault("mmap") : 0;
    if (rc)
        return rc;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (p == MAP_FAILED) /* EAGAIN: all is locked (mlockall) and RLIMIT_MEMLOCK reached */
        return errno == EAGAIN ? -ENOMEM : -errno;
    ROOT_ADD(p, bytes);
    /* It may lie where a stack was whose marks ASan still has. */
    UNPOISON(p, bytes);
    *ret_p = p;
    return 0;
}

int fen__sys_map(size_t bytes, void **ret_p) { return map(bytes, MAP_NORESERVE, ret_p); }

int fen__sys_map_aligned(size_t bytes, size_t align, size_t skew, void **ret_p)
{
    if (bytes + align < bytes)
        return -ENOMEM;
    void *all = NULL;
    int rc = map(bytes + align, 0, &all); /* what could never be backed is refused at once */
    if (rc)
        return rc;
    uintptr_t low = (uintptr_t)all;
    uintptr_t at = ((low + skew + align - 1) & ~(uintptr_t)(align - 1)) - skew;
    uintptr_t end = at + bytes, high = low + bytes + align;
    ROOT_DEL(all, bytes + align);
    if (at > low)
        munmap(all, at - low);
    if (high > end)
        munmap((void *)end, high - end);
    ROOT_ADD((void *)at, bytes);
    *ret_p = (void *)at;
    return 0;
}

void fen__sys_unmap(void *p, size_t bytes)
{
    int saved = errno;
    ROOT_DEL(p, bytes);
    munmap(p, bytes);
    errno = saved;
}

int fen__sys_guard_madvise(void *p, size_t bytes)
{
    return madvise(p, bytes, MADV_GUARD_INSTALL) ? -errno : 0;
}

int fen__sys_guard_mprotect(void *p, size_t bytes)
{
    return mprotect(p, bytes, PROT_NONE) ? -errno : 0;
}

int fen__sys_release(void *p, size_t bytes)
{
    int saved = errno, rc = madvise(p, bytes, MADV_DONTNEED) ? -errno : 0;
    errno = saved;
    return rc;
}

int fen__sys_remap(void *p, size_t bytes, size_t to_bytes, void *to)
{
    int rc = fen__sys_fault ? fen__sys_fault("mremap") : 0;
    if (rc)
        return rc;
    void *at = to ? mremap(p, bytes, to_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to)
                  : mremap(p, bytes, to_bytes, 0);
    if (at == MAP_FAILED)
        return -errno;
    ROOT_DEL(p, bytes);
    if (to)
        ROOT_DEL(to, to_bytes);
    ROOT_ADD(at, to_bytes);
    UNPOISON(at, to_bytes);
    return 0;
}

void fen__sys_hugepages(void *p, size_t bytes) { madvise(p, bytes, MADV_HUGEPAGE); }

/* Since Linux 6.13 a process may give back its own pages by process_madvise: one shoot-down of the
 * other cores' address caches for all parts. Older kernels refuse either the call or the advice;
 * they, and what a call left over, take a call for each part. */
void fen__sys_release_parts(const struct iovec *part, int n)
{
    int saved = errno;
    ssize_t done = syscall(SYS_process_madvise, PIDFD_SELF, part, (size_t)n, MADV_DONTNEED, 0u);
    for (int i = 0; i < n; i++) {
        done -= (ssize_t)part[i].iov_len;
        if (done < 0)
            madvise(part[i].iov_base, part[i].iov_len, MADV_DONTNEED);
    }
    errno = saved;
}

int fen__sys_access(void *p, size_t bytes, bool allowed)
{
    return mprotect(p, bytes, allowed ? PROT_READ | PROT_WRITE : PROT_NONE) ? -errno : 0;
}

size_t fen__sys_page_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }
