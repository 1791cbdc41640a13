#!/bin/sh
# malloc_test.sh - programs that know nothing of fen do their work under libfen-malloc.so: the same
# output as without it, with threads, forks and checked blocks; misuse is named.
. "$FEN_SOURCE_DIR/test/lib.sh"
lib=$FEN_BUILD_DIR/libfen-malloc.so
[ -f "$lib" ] || skip "libfen-malloc.so is not part of this build"
need python3 sqlite3 git cc

under() { LD_PRELOAD=$lib "$@"; }

# same NAME COMMAND...: with and without, the output is one.
same() {
    name=$1
    shift
    "$@" >"$tmp/without" 2>&1 || fail "$name: fails without the library"
    under "$@" >"$tmp/with" 2>&1 || fail "$name: $(tail -n 3 "$tmp/with")"
    cmp -s "$tmp/without" "$tmp/with" || fail "$name: another output than without the library"
    FEN_DEBUG=memcheck=1 under "$@" >"$tmp/with" 2>&1 ||
        fail "$name, checked: $(tail -n 3 "$tmp/with")"
    cmp -s "$tmp/without" "$tmp/with" || fail "$name, checked: another output"
}

same sqlite3 sqlite3 :memory: "
    CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
    INSERT INTO t SELECT i, hex(i * 7919) || substr(hex(zeroblob(i % 500)), 1, i % 500) FROM n;
    CREATE INDEX x ON t(b);
    SELECT count(*), sum(length(b)), min(b), max(b) FROM t ORDER BY b;"
cat >"$tmp/work.py" <<'PY'
import collections, json, subprocess, threading, os
d = {str(i): list(range(i % 50)) for i in range(4000)}
text = json.dumps(d, sort_keys=True)
assert json.loads(text) == d
results = []
def work(k):
    results.append(sum(len(str(i) * (i % 9)) for i in range(k, 4000, 4)))
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
pid = os.fork()
if pid == 0:
    os._exit(len([bytes(i) for i in range(3000)]) % 251)
print(len(text), sum(results), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(subprocess.run(["echo", "child"], capture_output=True, text=True).stdout)
PY
same python3 python3 -c "exec(open('$tmp/work.py').read())"
git init -q "$tmp/repo"
(cd "$tmp/repo" && seq 5000 >numbers && git add . &&
    git -c user.name=t -c user.email=t@example.org commit -qm one && seq 2 5001 >numbers)
same "git diff" git -C "$tmp/repo" diff --stat
same "git log" git -C "$tmp/repo" log --format=%an -p

cat >"$tmp/user.c" <<'C'
#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void *busy(void *arg)
{
    void *p[100] = {0};
    for (int i = 0; i < 50000; i++) {
        free(p[i % 100]);
        p[i % 100] = malloc((size_t)(i * 37 % 3000));
    }
    for (int i = 0; i < 100; i++)
        free(p[i]);
    return arg;
}
int main(int argc, char **argv)
{
    volatile size_t half = SIZE_MAX / 2 + 2;
    void *p = NULL, *q;
    (void)argv;
    for (size_t n = 0; n < 70; n++) {
        assert((uintptr_t)(q = malloc(n)) % 16 == 0 && malloc_usable_size(q) >= n);
        free(q);
    }
    assert(posix_memalign(&p, 3, 10) == EINVAL && posix_memalign(&p, 4, 10) == EINVAL);
    assert(posix_memalign(&p, 4096, 10) == 0 && (uintptr_t)p % 4096 == 0);
    free(p);
    assert((uintptr_t)(p = memalign(64, 100)) % 64 == 0);
    free(p);
    assert((uintptr_t)(p = aligned_alloc(1 << 20, 3 << 20)) % (1 << 20) == 0);
    free(p);
    errno = 0;
    assert(!calloc(half, 2) && errno == ENOMEM);
    assert(!reallocarray(NULL, half, 2) && !malloc(half));
    assert(!realloc(malloc(10), 0));
    assert(!malloc((size_t)1 << 46)); /* more than the machine has, and no promise */
    pthread_t t[4];
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 4; i++)
            pthread_create(&t[i], NULL, busy, NULL);
        for (int i = 0; i < 4; i++)
            pthread_join(t[i], NULL);
    }
    p = malloc(40);
    free(p);
    if (argc > 2) { /* one byte too many */
        ((char *)(p = malloc(atoi(argv[2]))))[atoi(argv[2])] = 0;
        free(p);
    } else if (argc > 1)
        free(p);
    puts("fine");
    return 0;
}
C
cc -O1 -fno-builtin -w -o "$tmp/user" "$tmp/user.c" -lpthread ||
    fail "user.c does not build"
[ "$(under "$tmp/user")" = fine ] || fail "user.c: wrong under the library"
if under "$tmp/user" twice >"$tmp/out" 2>&1; then fail "a double free passed"; fi
grep -q "heap misuse: double free" "$tmp/out" ||
    fail "a double free was not named: $(cat "$tmp/out")"
for n in 1 7 8 15 16 17 23 24 25 40; do
    if FEN_DEBUG=leaks=0,memcheck=1 under "$tmp/user" over $n >"$tmp/out" 2>&1; then
        fail "a write past the end of $n bytes passed"
    fi
    grep -q "write past the end of a block" "$tmp/out" || fail "$n bytes: $(cat "$tmp/out")"
done
FEN_DEBUG=xmemcheck=1 under "$tmp/user" over 8 >"$tmp/out" || fail "another word was taken for it"

# A library's handlers allocate at a fork, though it registered them before any block was.
cat >"$tmp/fork.c" <<'C'
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
static void *p[400];
static void allocate(void) { free(malloc(5000)); }
int main(void)
{
    int status = -1;
    if (pthread_atfork(allocate, allocate, allocate))
        return 1;
    p[0] = malloc(10);
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    if (waitpid(pid, &status, 0) != pid || status)
        return 2;
    if (mlockall(MCL_CURRENT | MCL_FUTURE)) /* giving pages back fails */
        return 0;
    for (int i = 0; i < 400; i++)
        p[i] = malloc(100000);
    errno = EIO;
    for (int i = 0; i < 400; i++)
        free(p[i]);
    return errno == EIO ? 0 : 3;
}
C
cc -O1 -fno-builtin -w -o "$tmp/fork" "$tmp/fork.c" -lpthread || fail "fork.c does not build"
LD_PRELOAD=$lib timeout 20 "$tmp/fork" || fail "fork.c: exit status $?"

# Linked: one heap for malloc and fen_alloc, and the bill sees both.
cat >"$tmp/linked.c" <<'C'
#include <fen/mem.h>
#include <stdlib.h>
int main(void)
{
    fen_mem_usage u;
    if (fen_mem_account_set(9))
        return 1;
    char *p = malloc(1000), *q = fen_alloc(1000);
    if (fen_mem_usage_get(9, &u) || u.live_bytes != 2 * (int64_t)fen_usable_size(p))
        return 2;
    free(q);
    fen_free(p);
    return fen_mem_usage_get(9, &u) || u.live_bytes != 0 ? 3 : 0;
}
C
cc -O1 -fno-builtin -o "$tmp/linked" -I"$FEN_SOURCE_DIR/include" "$tmp/linked.c" \
    "$FEN_BUILD_DIR/libfen_malloc.a" "$FEN_BUILD_DIR/libfen.a" -lpthread ||
    fail "linked.c does not build"
"$tmp/linked" || fail "linked.c: exit status $?"
echo "ok"
