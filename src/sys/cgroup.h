/* cgroup.h - the CPU quota and the memory limit of this process's cgroups. */
#ifndef FEN_SYS_CGROUP_H
#define FEN_SYS_CGROUP_H

#include "base/base.h"

/* Cores that the quota allows, rounded up, at least 1: the smallest on the way from the process's
 * cgroup up to the mount, v2 or v1. 0: no quota, or none that can be read. root is put before each
 * path ("" in earnest; tests have files of their own). */
int fen__sys_cgroup_cores(const char *root);

/* Bytes that the memory limit allows: the smallest on the way up likewise. 0: none. */
int64_t fen__sys_cgroup_memory(const char *root);

#endif
