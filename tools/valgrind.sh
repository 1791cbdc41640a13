#!/bin/sh
# valgrind.sh PATTERN - the unit tests of the rooms that switch stacks, one after another under
# memcheck: an access to what is not there, a branch on what was never written, a lost block.
# Threads take turns here, so races are TSan's business. Child processes are left out: Valgrind 3.19
# does not know pidfd_open. Of the tests that cross rooms those are in that work with what fibers
# share: limits, foreign descriptors, sockets. Called by ./dev valgrind.
set -eu
cd "$(dirname "$0")/.."
dir=build/valgrind
log=$dir.log
mkdir -p build
names=$(ls src/sync/*_test.c src/sched/*_test.c src/fiber/*_test.c src/http/*_test.c \
    src/mem/*_test.c src/net/signal_test.c test/limit_test.c test/fdwait_test.c test/sock_test.c |
    sed 's|^src/||; s|/|_|; s|\.c$||' | grep -e "$1") || {
    echo "valgrind: no test is called like '$1'" >&2
    exit 2
}
if [ ! -f "$dir/build.ninja" ] && ! cmake --preset valgrind >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
# shellcheck disable=SC2086
cmake --build "$dir" -j "$(nproc)" --target $names >"$log" 2>&1 || {
    grep -v '^\[[0-9/]*\] ' "$log" | head -n 60 >&2
    exit 1
}
failed=""
n=0
for name in $names; do
    t=$(date +%s)
    rc=0
    timeout 300 valgrind -q --error-exitcode=99 --leak-check=full --fair-sched=yes \
        --errors-for-leak-kinds=definite,indirect --show-leak-kinds=definite,indirect \
        --suppressions=tools/valgrind.supp "$dir/$name" >"$dir/$name.log" 2>&1 || rc=$?
    n=$((n + 1))
    said=ok
    [ $rc = 0 ] || said="rc $rc"
    printf '%-28s %4ss  %s\n' "$name" $(($(date +%s) - t)) "$said"
    if [ $rc != 0 ]; then
        head -n 60 "$dir/$name.log"
        failed="$failed $name"
    fi
done
if [ -n "$failed" ]; then
    echo "valgrind: failed:$failed"
    exit 1
fi
echo "valgrind: ok, $n programs"
