/* node.h - NUMA nodes: which processors and which memory are near each other. */
#ifndef FEN_SYS_NODE_H
#define FEN_SYS_NODE_H

#include "base/base.h"

#define FEN__NODES_MAX 16

/* Nodes are numbered from 0, in the kernel's order; only those count that have processors which
 * this process may use. Looks at them anew and returns how many there are: 1 where there is no
 * second one, nothing can be read, or there are more than FEN__NODES_MAX. root stands before the
 * paths. fake: so many in any case, of which each has all processors and all memory; 0: the true
 * ones. Before there are threads that ask. */
int fen__sys_nodes_open(const char *root, int fake);
/* The node of the i-th of a number of things that each want a processor: one for each node in
 * turn, as long as it has processors that none was given to. */
int fen__sys_node_of(int i);

/* The calling thread's; -ve: -errno, and it runs where it did. A node of -1: all processors, as if
 * it had never entered one. */
int fen__sys_node_enter(int node);
int fen__sys_node(void);         /* the one entered, or else where the thread happens to run */
int fen__sys_node_entered(void); /* the one entered, or -1 */

/* Pages of that memory that are touched from now on come from the node while it has any. A wish. */
void fen__sys_node_prefer(void *p, size_t bytes, int node);

/* The processors that a thread may have which entered no node, for pthread_attr_setaffinity_np;
 * NULL: there is one node, nobody enters any. */
const void *fen__sys_node_everywhere(size_t *ret_bytes);

#endif
