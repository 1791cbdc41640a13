/* symbol.c - which function an address lies in.
 *
 * dladdr knows only what the dynamic linker knows, which in a program are hardly any functions. So
 * the object's own symbol table is read from its file: the program through /proc/self/exe, a shared
 * object by its path. Each look-up opens, scans and closes, which makes it slow (50 us for 20,000
 * symbols) and free of state, so that it may be done in the handler of a crash.
 *
 * The list of objects is a snapshot under the loader's lock. It is made when a run starts and again
 * before a dump; a crash uses the one there is. */
#include "base/sanitize.h"
#include "sys/look.h"

#include "sys/sys_int.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define OBJECTS_MAX 64
#define PATH_BYTES 160

#ifdef FEN__ASAN /* a file may be mapped where a stack was whose marks ASan still has */
void __asan_unpoison_memory_region(void const volatile *addr, size_t size);
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define UNPOISON(p, n) ((void)0)
#endif

struct object {
    uintptr_t start, end, bias;
    char path[PATH_BYTES]; /* empty: the program */
    uint8_t build_id[FEN__BUILD_ID_BYTES];
    uint32_t build_id_n;
};

static struct {
    uint32_t lock;
    _Atomic int n;
    struct object o[OBJECTS_MAX];
} objects;

/* The notes of a segment, as they lie in memory. */
static void note_build_id(struct object *o, const char *at, size_t n)
{
    ElfW(Nhdr) h;
    while (n >= sizeof h) {
        memcpy(&h, at, sizeof h);
        size_t name = (h.n_namesz + 3) & ~3u, desc = (h.n_descsz + 3) & ~3u;
        if (n - sizeof h < name || n - sizeof h - name < desc)
            return;
        at += sizeof h + name;
        if (h.n_type == NT_GNU_BUILD_ID && name == 4 && h.n_descsz <= FEN__BUILD_ID_BYTES) {
            memcpy(o->build_id, at, h.n_descsz);
            o->build_id_n = h.n_descsz;
            return;
        }
        at += desc;
        n -= sizeof h + name + desc;
    }
}

static int note(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    int *n = arg;
    if (*n == OBJECTS_MAX)
        return 1;
    struct object *o = &objects.o[*n];
    *o = (struct object){.start = UINTPTR_MAX, .bias = info->dlpi_addr};
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t at = info->dlpi_addr + p->p_vaddr;
        if (p->p_type == PT_NOTE && p->p_align <= 4)
            note_build_id(o, (const char *)at, p->p_memsz);
        if (p->p_type != PT_LOAD)
            continue;
        o->start = at < o->start ? at : o->start;
        o->end = at + p->p_memsz > o->end ? at + p->p_memsz : o->end;
    }
    strncpy(o->path, info->dlpi_name ? info->dlpi_name : "", PATH_BYTES - 1);
    *n += o->end > o->start;
    return 0;
}

void fen__sys_objects_note(void)
{
    fen__lock(&objects.lock);
    int n = 0;
    dl_iterate_phdr(note, &n);
    objects.n = n;
    fen__unlock(&objects.lock);
}

/* ---- a symbol table ---- */

struct file {
    const char *p;
    size_t n;
};

static struct file open_file(const char *path)
{
    struct file f = {NULL, 0};
    struct stat st;
    int fd = fen__sys_own_fd(open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0)
        return f;
    if (fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof(ElfW(Ehdr))) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p != MAP_FAILED) {
            UNPOISON(p, (size_t)st.st_size);
            f.p = p;
            f.n = (size_t)st.st_size;
        }
    }
    close(fd);
    return f;
}

static bool inside(const struct file *f, uint64_t at, uint64_t n)
{
    return at <= f->n && n <= f->n - at;
}

/* The section of that type, with the section it links to; both lie inside the file. */
static bool section(const struct file *f, uint32_t type, ElfW(Shdr) * ret, ElfW(Shdr) * ret_link)
{
    ElfW(Ehdr) h;
    memcpy(&h, f->p, sizeof h);
    if (memcmp(h.e_ident, ELFMAG, SELFMAG) || h.e_shentsize != sizeof(ElfW(Shdr)) ||
        !inside(f, h.e_shoff, (uint64_t)h.e_shnum * sizeof(ElfW(Shdr))))
        return false;
    const char *table = f->p + h.e_shoff;
    for (int i = 0; i < h.e_shnum; i++) {
        memcpy(ret, table + (size_t)i * sizeof *ret, sizeof *ret);
        if (ret->sh_type != type || ret->sh_link >= h.e_shnum)
            continue;
        memcpy(ret_link, table + (size_t)ret->sh_link * sizeof *ret, sizeof *ret);
        return inside(f, ret->sh_offset, ret->sh_size) &&
               inside(f, ret_link->sh_offset, ret_link->sh_size);
    }
    return false;
}

/* The name of the function around that address of the file, NULL: none. */
static const char *find(const struct file *f, uint32_t type, uint64_t addr, uint64_t *ret_start)
{
    ElfW(Shdr) syms, names;
    const char *best = NULL;
    if (!section(f, type, &syms, &names))
        return NULL;
    for (uint64_t at = 0; at + sizeof(ElfW(Sym)) <= syms.sh_size; at += sizeof(ElfW(Sym))) {
        ElfW(Sym) s;
        memcpy(&s, f->p + syms.sh_offset + at, sizeof s);
        if ((s.st_info & 15) != STT_FUNC || addr < s.st_value || s.st_name >= names.sh_size ||
            addr >= s.st_value + (s.st_size ? s.st_size : 1))
            continue;
        const char *name = f->p + names.sh_offset + s.st_name;
        if (!memchr(name, 0, names.sh_size - s.st_name))
            continue;
        best = name;
        *ret_start = s.st_value;
    }
    return best;
}

/* ---- many at once ---- */

/* The first of n ascending addresses that is not below at. */
static size_t first_from(const uintptr_t *pc, size_t n, uintptr_t at)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (pc[mid] < at)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct wanted {
    const uintptr_t *pc;
    size_t from, to; /* those of this object */
    uintptr_t bias;
    void (*fn)(void *arg, size_t k, const char *name, size_t bytes);
    void *arg;
};

static void name_all(const struct file *f, uint32_t type, const struct wanted *w)
{
    ElfW(Shdr) syms, names;
    if (!section(f, type, &syms, &names))
        return;
    for (uint64_t at = 0; at + sizeof(ElfW(Sym)) <= syms.sh_size; at += sizeof(ElfW(Sym))) {
        ElfW(Sym) s;
        memcpy(&s, f->p + syms.sh_offset + at, sizeof s);
        if ((s.st_info & 15) != STT_FUNC || !s.st_value || s.st_name >= names.sh_size)
            continue;
        uintptr_t start = w->bias + s.st_value;
        size_t k = w->from + first_from(w->pc + w->from, w->to - w->from, start);
        const char *name = f->p + names.sh_offset + s.st_name;
        size_t len = strnlen(name, names.sh_size - s.st_name);
        for (; k < w->to && w->pc[k] - start < (s.st_size ? s.st_size : 1); k++)
            w->fn(w->arg, k, name, len);
    }
}

void fen__sys_functions(const uintptr_t *pc, size_t n,
                        void (*fn)(void *arg, size_t k, const char *name, size_t bytes), void *arg)
{
    for (int i = 0; i < objects.n; i++) {
        const struct object *o = &objects.o[i];
        struct wanted w = {pc, first_from(pc, n, o->start), first_from(pc, n, o->end), o->bias, fn,
                           arg};
        struct file f = {NULL, 0};
        if (w.from < w.to)
            f = open_file(o->path[0] ? o->path : "/proc/self/exe");
        if (!f.p)
            continue;
        name_all(&f, SHT_SYMTAB, &w);
        name_all(&f, SHT_DYNSYM, &w);
        munmap((void *)(uintptr_t)f.p, f.n);
    }
}

void fen__sys_program(char *to, size_t cap)
{
    ssize_t n = readlink("/proc/self/exe", to, cap - 1);
    to[n > 0 ? n : 0] = 0;
}

bool fen__sys_object(int i, struct fen__sys_object *ret)
{
    if (i >= objects.n)
        return false;
    const struct object *o = &objects.o[i];
    *ret = (struct fen__sys_object){o->start, o->end, o->path, o->build_id, o->build_id_n};
    return true;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void in_object(struct fen__text *t, const struct object *o, uintptr_t pc)
{
    struct file f = open_file(o->path[0] ? o->path : "/proc/self/exe");
    uint64_t start = 0;
    const char *name = f.p ? find(&f, SHT_SYMTAB, pc - o->bias, &start) : NULL;
    if (f.p && !name)
        name = find(&f, SHT_DYNSYM, pc - o->bias, &start);
    const char *lto = name ? strstr(name, ".lto_priv") : NULL; /* the optimiser's, not a reader's */
    if (lto)
        fen__text_bytes(t, name, (size_t)(lto - name));
    else
        fen__text_put(t, name ? name : o->path[0] ? base_name(o->path) : "exe");
    fen__text_put(t, "+");
    fen__text_hex(t, pc - o->bias - start);
    if (f.p)
        munmap((void *)(uintptr_t)f.p, f.n);
}

void fen__sys_symbol(struct fen__text *t, const void *pc)
{
    uintptr_t at = (uintptr_t)pc;
    for (int i = 0; i < objects.n; i++)
        if (at >= objects.o[i].start && at < objects.o[i].end) {
            in_object(t, &objects.o[i], at);
            return;
        }
    fen__text_hex(t, at);
}
