/* malloc.c - the C library's allocation calls, by fen's heap.
 *
 * Linked into a program (fen_malloc, an archive) or loaded before the C library (libfen-malloc.so),
 * so that SQLite, OpenSSL and whatever else calls malloc is served by the heap and billed to the
 * account of the fiber that calls. They keep what POSIX and glibc promise: errno, alignment to 16
 * for every size, realloc(p, 0) frees.
 *
 * Early calls (before main, before thread-locals of other libraries) are no different: the heap
 * needs no constructor, its one thread-local is in the static block, and it allocates nothing
 * itself but maps. Calls from signal handlers are as undefined as they are with glibc. */
#include <errno.h>
#include <fen/mem.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

/* By FEN_DEBUG, for the whole process: a block then ends where the program asked. */
static bool checked;

/* Classes of 8 and 24 bytes are aligned to 8 only; no checked block is. */
static size_t at_least_16(size_t n)
{
    return __builtin_expect(checked, 0) ? n : n <= 16 ? 16 : n <= 24 ? 32 : n;
}

static void *or_enomem(void *p)
{
    if (__builtin_expect(!p, 0))
        errno = ENOMEM;
    return p;
}

PUBLIC void *malloc(size_t n) { return or_enomem(fen_alloc(at_least_16(n))); }
PUBLIC void free(void *p) { fen_free(p); }

PUBLIC void *calloc(size_t n, size_t bytes)
{
    size_t all;
    if (__builtin_mul_overflow(n, bytes, &all))
        return or_enomem(NULL);
    return or_enomem(fen_calloc(1, at_least_16(all)));
}

PUBLIC void *realloc(void *p, size_t n)
{
    if (p && !n) {
        fen_free(p);
        return NULL;
    }
    return or_enomem(fen_realloc(p, at_least_16(n)));
}

PUBLIC void *reallocarray(void *p, size_t n, size_t bytes)
{
    size_t all;
    return __builtin_mul_overflow(n, bytes, &all) ? or_enomem(NULL) : realloc(p, all);
}

/* glibc rounds an odd alignment up; the standard calls it an error. */
static int aligned(size_t align, size_t n, void **ret_p)
{
    return -fen_aligned_alloc(align < 16 ? 16 : align, at_least_16(n), ret_p);
}

PUBLIC int posix_memalign(void **ret_p, size_t align, size_t n)
{
    if (align < sizeof(void *) || align & (align - 1))
        return EINVAL;
    return aligned(align, n, ret_p);
}

PUBLIC void *aligned_alloc(size_t align, size_t n)
{
    void *p = NULL;
    int rc = align & (align - 1) ? EINVAL : aligned(align, n, &p);
    if (rc)
        errno = rc;
    return p;
}

PUBLIC void *memalign(size_t align, size_t n) { return aligned_alloc(align, n); }

PUBLIC void *valloc(size_t n) { return aligned_alloc((size_t)sysconf(_SC_PAGESIZE), n); }

PUBLIC void *pvalloc(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return n > SIZE_MAX - page ? or_enomem(NULL)
                               : aligned_alloc(page, (n + page - 1) & ~(page - 1));
}

PUBLIC size_t malloc_usable_size(void *p) { return fen_usable_size(p); }

PUBLIC int malloc_trim(size_t keep)
{
    (void)keep;
    return fen_mem_reclaim() > 0;
}

/* A program that has no run, which reads FEN_DEBUG, may ask for checked blocks too. */
__attribute__((constructor)) static void configure(void)
{
    for (const char *at = getenv("FEN_DEBUG"); at && *at; at += strcspn(at, ","), at += *at == ',')
        if (!strncmp(at, "memcheck=1", 10) && (!at[10] || at[10] == ','))
            checked = true;
    if (checked)
        fen_mem_check(true);
}

/* Blocks that were written to after they were freed, and are still kept: the last ones. */
__attribute__((destructor)) static void look_again(void)
{
    if (checked)
        fen_mem_check(false);
}
