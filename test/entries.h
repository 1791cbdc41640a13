/* entries.h - how much a process holds, by the entries of /proc/self/fd, /proc/self/task. */
#ifndef FEN_TEST_ENTRIES_H
#define FEN_TEST_ENTRIES_H

#include <dirent.h>

/* Entries of a directory, `.`, `..` and its own descriptor among them; 0: there is none. */
static inline int entries(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

#endif
