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
};

static struct {
    uint32_t lock;
    _Atomic int n;
    struct object o[OBJECTS_MAX];
} objects;

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
        if (p->p_type != PT_LOAD)
            continue;
        uintptr_t at = info->dlpi_addr + p->p_vaddr;
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
    int fd = open(path, O_RDONLY | O_CLOEXEC);
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
