/* mem.h - fen's heap: malloc, fast on many threads, with an account for every block.
 *
 * Any thread may call anything here, in a fiber or not, inside fen_run or without it. Nothing
 * blocks but for short locks, nothing parks. Not signal-safe. A block may be freed by any thread,
 * and only once: a second free of a block that was not handed out again, and a pointer that this
 * heap never handed out, end the process with a line that says so (one into the middle of a small
 * block only once anything is billed). Blocks of this heap and of the C library's malloc do not
 * mix, unless the program is linked with libfen_malloc, which makes them one (docs/memory.md).
 *
 * Every block is charged to an account, a number that means tenant x operation to the rooms above
 * and nothing here: the account of the fiber that allocates, or 0. What is charged are the bytes of
 * the block, a little more than was asked for: at most 12.5 % above 128 bytes, and above 32 KiB
 * whole pages of 8 KiB. */
#ifndef FEN_MEM_PUBLIC_H
#define FEN_MEM_PUBLIC_H

#include <fen/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FEN_MEM_ACCOUNTS 4096 /* accounts are 0 to 4095 */

/* At least size_bytes, not zeroed; NULL when out of memory or when the account's cap forbids it.
 * Aligned for every type of that size: to 16, but to 8 for up to 8 and for 17 to 24 bytes. Size 0
 * is a block too. The caller frees it with fen_free. */
FEN_API void *fen_alloc(size_t size_bytes) FEN_MUST_CHECK;

/* n x size_bytes, zeroed; NULL also when the product does not fit a size_t. */
FEN_API void *fen_calloc(size_t n, size_t size_bytes) FEN_MUST_CHECK;

/* A block of size_bytes that begins with what p held, in place where it fits. p is freed, or on
 * NULL still valid. It stays with the account that p had. p NULL: fen_alloc. */
FEN_API void *fen_realloc(void *p, size_t size_bytes) FEN_MUST_CHECK;

/* NULL is accepted. */
FEN_API void fen_free(void *p);

/* A block at a multiple of align_bytes in *ret_p: 0, -EINVAL when that is not a power of two,
 * -ENOMEM. */
FEN_API int fen_aligned_alloc(size_t align_bytes, size_t size_bytes, void **ret_p) FEN_MUST_CHECK;

/* Bytes of the block that may be used, at least what was asked for; NULL: 0. */
FEN_API size_t fen_usable_size(const void *p);

/* As fen_alloc, but charged to that account; NULL also for an account there cannot be. */
FEN_API void *fen_alloc_for(uint32_t account, size_t size_bytes) FEN_MUST_CHECK;

/* Who pays for what the calling fiber allocates, outside a fiber: the calling thread. A fiber
 * begins with its spawner's. Set: 0, -EINVAL for an account there cannot be, -ENOMEM. */
FEN_API uint32_t fen_mem_account(void);
FEN_API int fen_mem_account_set(uint32_t account) FEN_MUST_CHECK;

typedef struct fen_mem_usage {
    int64_t allocated_bytes, freed_bytes; /* since the process began; live = allocated - freed */
    int64_t live_bytes;
    int64_t peak_bytes; /* at least the largest live_bytes ever, at most 192 KiB a thread above */
    int64_t cap_bytes;  /* 0: none */
    int64_t byte_seconds;
} fen_mem_usage;

/* What an account has used. Exact when nobody allocates meanwhile, whoever freed where; else behind
 * by what is under way. 0 or -EINVAL. */
FEN_API int fen_mem_usage_get(uint32_t account, fen_mem_usage *ret_usage) FEN_MUST_CHECK;

/* From now on the account's live bytes do not exceed `bytes` by new blocks; 0: no cap. An
 * allocation may be refused a little early: by up to a 16th of the cap for each other thread that
 * allocates for the account. 0 or -EINVAL. */
FEN_API int fen_mem_cap_set(uint32_t account, int64_t bytes) FEN_MUST_CHECK;

typedef struct fen_mem_stats {
    int64_t live_bytes;     /* of all blocks: the sum over the accounts */
    int64_t held_bytes;     /* pages in use: live, free blocks among them, cut-off rests */
    int64_t retained_bytes; /* free pages not given back yet */
    int64_t mapped_bytes;   /* address space of regions and large blocks */
    int64_t returned_bytes; /* given back to the system since the process began */
    int64_t records_bytes;  /* the heap's own book-keeping */
    int64_t nodes;          /* NUMA nodes that it keeps apart */
    /* freed on another node than they are from and sent home, and in how many batches */
    int64_t far_blocks, far_batches;
} fen_mem_stats;

/* Sums over the process; behind by what is under way. */
FEN_API void fen_mem_stats_get(fen_mem_stats *ret_stats);

#define FEN_MEM_CLASSES 67

/* Blocks of one size. Under AddressSanitizer, where blocks are the C library's, all but the first
 * stay 0. */
typedef struct fen_mem_class {
    int64_t block_bytes;
    int64_t spans;         /* runs of pages that were cut into such blocks */
    int64_t partial_spans; /* of them those that no thread has: in the central set */
    int64_t blocks;        /* that the spans hold, free ones among them */
    int64_t out_blocks;    /* that are in use, or free at some thread's hand */
    int64_t refills;       /* times that a thread had none left at hand */
    int64_t wait_ns;       /* that threads waited for the lock of the central set */
} fen_mem_class;
/* Classes are numbered from 0 by size. Figures of other threads are as of a moment ago. 0, or
 * -EINVAL: no such class. Does not block; any thread or fiber. */
FEN_API int fen_mem_class_get(uint32_t number, fen_mem_class *ret_class);

/* Gives every free page back to the system, and the calling thread's cache to the others: bytes
 * given back. Takes up to a millisecond for each 10 MB. */
FEN_API int64_t fen_mem_reclaim(void);

typedef struct fen_mem_options {
    int retain_percent; /* free pages kept, of those in use; 0 to 100, -1: give nothing back */
    bool huge_pages;    /* ask for huge pages for what is mapped from now on */
} fen_mem_options;

/* At any time; 10 % (and always 4 MiB) and no huge pages without it. 0 or -EINVAL. */
FEN_API int fen_mem_options_set(const fen_mem_options *options) FEN_MUST_CHECK;

/* From now on new blocks are filled with a pattern, have a red zone behind them and wait in a
 * quarantine after they are freed: a write past the end or after the free, and a second free, end
 * the process with a line that names the block. Slow; blocks from before are not checked. */
FEN_API void fen_mem_check(bool on);

#ifdef __cplusplus
}
#endif
#endif
