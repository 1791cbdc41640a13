/* check.c - misuse: the line that names it, and blocks that find more of it.
 *
 * Always: a free block carries a mark made of a secret and its own address, which a second free
 * finds. A pointer outside all regions, or in a page that belongs to no span, is foreign. One into
 * the middle of a block is found where that is cheap: in large blocks, and once anything is billed.
 *
 * With fen_mem_check on, new blocks come from spans of their own (the second half of the bins) and
 * look so:
 *   n bytes for the user, 0xA5 at first | 0xFA ... | n ^ secret (8 bytes) | ~mark (8 bytes)
 * with one 0xFA at least: a byte of the secret may be the 0 that ends a string too long.
 * A free finds a trailer or a red zone that was written over, fills the block with 0xDF and puts it
 * into the quarantine; when it leaves that, a byte that is not 0xDF was written after the free. The
 * quarantine is first in, first out, QUARANTINE blocks and QUARANTINE_BYTES at most, for the whole
 * process, under a lock. A block in it is off its account's bill. */
#include "mem/heap_int.h"

#include <string.h>

#define TRAILER 16
#define ZONE_LEAST 1
#define FRESH 0xA5
#define ZONE 0xFA
#define DEAD 0xDF
#define QUARANTINE 1024
#define QUARANTINE_BYTES ((size_t)4 << 20)

bool fen__checked;

/* ---- the report ---- */

static size_t put_text(char *to, size_t at, const char *s)
{
    size_t n = strlen(s);
    memcpy(to + at, s, n);
    return at + n;
}

static size_t put_number(char *to, size_t at, uint64_t v, uint32_t base)
{
    char digits[24];
    size_t n = sizeof digits;
    do
        digits[--n] = "0123456789abcdef"[v % base];
    while (v /= base);
    memcpy(to + at, digits + n, sizeof digits - n);
    return at + sizeof digits - n;
}

void fen__misuse(const char *what, const void *p, const struct fen__span *s)
{
    char text[256];
    size_t n = put_text(text, 0, "fen: heap misuse: ");
    n = put_text(text, n, what);
    n = put_text(text, n, ": 0x");
    n = put_number(text, n, (uintptr_t)p, 16);
    if (s) {
        n = put_text(text, n, ", block of ");
        n = put_number(text, n, s->bytes, 10);
        n = put_text(text, n, " bytes");
    }
    n = put_text(text, n, "\n");
    fen__sys_die(text, n);
}

/* ---- the trailer ---- */

static void set_trailer(const struct fen__span *s, char *p, size_t n)
{
    uintptr_t words[2] = {n ^ fen__heap_secret, ~fen__mark_of(p)};
    memset(p + n, ZONE, s->bytes - TRAILER - n);
    memcpy(p + s->bytes - TRAILER, words, TRAILER);
}

static bool all(const char *p, size_t n, unsigned char byte)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] != byte)
            return false;
    return true;
}

size_t fen__check_size(const struct fen__span *s, const void *p)
{
    uintptr_t words[2];
    const char *at = p;
    memcpy(words, at + s->bytes - TRAILER, TRAILER);
    size_t n = words[0] ^ fen__heap_secret;
    if (all(at + s->bytes - TRAILER, TRAILER, DEAD))
        fen__misuse("double free, or use of a freed block", p, s);
    if (words[1] != ~fen__mark_of(p) || n > s->bytes - TRAILER ||
        !all(at + n, s->bytes - TRAILER - n, ZONE))
        fen__misuse("write past the end of a block", p, s);
    return n;
}

/* ---- the quarantine ---- */

static struct {
    uint32_t lock, first, n;
    size_t bytes;
    struct {
        struct fen__span *span;
        char *p;
    } held[QUARANTINE];
} quarantine;

static void let_go(struct fen__cache *c, struct fen__span *s, char *p)
{
    if (!all(p, s->bytes, DEAD))
        fen__misuse("write to a freed block", p, s);
    fen__block_back(c, s, (struct fen__block *)p);
}

void fen__check_lock(void) { fen__lock(&quarantine.lock); }
void fen__check_unlock(void) { fen__unlock(&quarantine.lock); }

/* The oldest block of the quarantine, while there is too much in it. */
static bool oldest(uint32_t keep, size_t keep_bytes, struct fen__span **ret_s, char **ret_p)
{
    fen__lock(&quarantine.lock);
    bool over = quarantine.n && (quarantine.n > keep || quarantine.bytes > keep_bytes);
    if (over) {
        *ret_s = quarantine.held[quarantine.first].span;
        *ret_p = quarantine.held[quarantine.first].p;
        quarantine.first = (quarantine.first + 1) % QUARANTINE;
        quarantine.n--;
        quarantine.bytes -= (*ret_s)->bytes;
    }
    fen__unlock(&quarantine.lock);
    return over;
}

static void drain(struct fen__cache *c, uint32_t keep, size_t keep_bytes)
{
    struct fen__span *s = NULL;
    char *p = NULL;
    while (oldest(keep, keep_bytes, &s, &p))
        let_go(c, s, p);
}

void fen__check_drain(struct fen__cache *c) { drain(c, 0, 0); }

void fen__check_free(struct fen__cache *c, struct fen__span *s, void *p)
{
    (void)fen__check_size(s, p);
    memset(p, DEAD, s->bytes);
    drain(c, QUARANTINE - 16, QUARANTINE_BYTES);
    fen__lock(&quarantine.lock);
    bool room = quarantine.n < QUARANTINE;
    if (room) {
        uint32_t at = (quarantine.first + quarantine.n++) % QUARANTINE;
        quarantine.held[at].span = s;
        quarantine.held[at].p = p;
        quarantine.bytes += s->bytes;
    }
    fen__unlock(&quarantine.lock);
    if (!room)
        let_go(c, s, p);
}

void *fen__check_new(struct fen__cache *c, size_t n, uint32_t account)
{
    size_t bytes = n + ZONE_LEAST + TRAILER;
    if (n > FEN__SMALL_MAX - ZONE_LEAST - TRAILER)
        return NULL;
    /* 24 bytes would be aligned to 8 only; malloc asks for fewer and promises 16 */
    uint32_t bin = FEN__CLASSES + fen__class_of(bytes > 24 ? bytes : 25);
    char *p = fen__block_take(c, bin, account);
    if (!p)
        return NULL;
    memset(p, FRESH, n);
    set_trailer(fen__span_in_region(p), p, n);
    return p;
}

void fen_mem_check(bool on)
{
    __atomic_store_n(&fen__checked, on, __ATOMIC_RELAXED);
    struct fen__cache *c = fen__cache_get(true);
    if (c)
        fen__cache_flush(c); /* so that its next blocks come the slow way, where they are checked */
    if (!on)
        fen__check_drain(c);
}
