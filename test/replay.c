/* replay.c - main for a fuzz target outside libFuzzer: runs every file of the given directories.
 *
 * So the corpus is a regression test in every build, also where no clang is installed. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define INPUT_MAX (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *dir, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        return -1;
    uint8_t *text = malloc(INPUT_MAX);
    size_t n = text ? fread(text, 1, INPUT_MAX, f) : 0;
    fclose(f);
    /* A copy of exactly n bytes, so that ASan sees a read past the end. */
    uint8_t *exact = malloc(n ? n : 1);
    for (size_t i = 0; exact && i < n; i++)
        exact[i] = text[i];
    free(text);
    if (exact)
        LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    return exact ? 0 : -1;
}

int main(int argc, char **argv)
{
    int n = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        for (struct dirent *e; d && (e = readdir(d));)
            if (e->d_name[0] != '.') {
                if (replay(argv[i], e->d_name))
                    return 1;
                n++;
            }
        if (d)
            closedir(d);
    }
    printf("%d inputs\n", n);
    return n ? 0 : 1;
}
