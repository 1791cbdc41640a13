#!/bin/sh
# gdb_test.sh - tools/fen-gdb.py on a stuck program: alive, as a core file, and without symbols; and
# a fiber that runs.
. "$FEN_SOURCE_DIR/test/lib.sh"
need gdb gcore strip
[ -z "${FEN_SANITIZE:-}" ] || skip "a core of a sanitizer's shadow memory is too large"
case "$(uname -m)" in x86_64 | aarch64) ;; *) skip "no such processor" ;; esac
program=$FEN_BUILD_DIR/example_stuck
[ -x "$program" ] || skip "the examples are not built"
pid=
guard=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$tmp"' EXIT

# look WHAT ARGUMENT... - gdb's output in $tmp/WHAT
look() {
    what=$1
    shift
    timeout 50 gdb -q -nx -batch -ex "set confirm off" -ex "set width 0" "$@" \
        -ex "source $FEN_SOURCE_DIR/tools/fen-gdb.py" -ex "info fibers" -ex "fiber 3 bt" \
        -ex "fiber apply 4 5 bt" -ex "info fibers wait" -ex "fiber 99 bt" \
        >"$tmp/out.$what" 2>&1 || true
    if grep -q "ptrace: Operation not permitted" "$tmp/out.$what"; then
        skip "the kernel does not let gdb attach"
    fi
}

has() { grep -Eq -- "$2" "$tmp/out.$1" || { cat "$tmp/out.$1"; fail "$1: no line like: $2"; }; }

check() {
    has "$1" '^ +1  main +parked +scope '
    has "$1" '^ +2  savings-to-giro +parked +mutex .* held by 3 '
    has "$1" '^ +3  giro-to-savings +parked +mutex .* held by 2 '
    has "$1" '^ +4  ledger +parked +recv '
    has "$1" '^7 fibers'
    has "$1" '^0 fibers' # the pattern matches none
    has "$1" 'no fiber 99'
}

start() {
    (ulimit -c unlimited 2>/dev/null && cd "$tmp" &&
        FEN_STACK_GUARD=$guard FEN_DEBUG=deadlock=ignore exec "$1") &
    pid=$!
    i=0 # all wait: the cashiers too, after 20 ms
    while [ $i -lt 100 ] && ! grep -q '^State:.*S' "/proc/$pid/status"; do i=$((i + 1)); done
    sleep 0.5
}

start "$program"
look live -p "$pid"
check live
has live '^#[0-9]+ +.*(fen_mutex_lock(_until)?|mutex_lock_slow) .*' # the inner may be tail calls
has live '^#[0-9]+ +.*mover \(arg='
has live '^#[0-9]+ +.*ledger \(arg='
has live '^Fiber 5 - \(parked mutex\)'
has live 'spawned at app\+0x[0-9a-f]+ \(stuck\.c:[0-9]+\)'
! grep -q 'corrupt' "$tmp/out.live" || fail "live: $(grep corrupt "$tmp/out.live")"
kill -ABRT "$pid"
wait "$pid" 2>/dev/null || true

# Of the fibers, without the threads'. Whether one switched to another fiber (run_*) or to the
# thread's own stack is chance.
frames() {
    sed -E '1,/^7 fibers/d' "$tmp/out.$1" |
        sed -En '/ run_(to|first) /!s/^#[0-9]+ +(0x[0-9a-f]+ in )?([a-z_]+) .*/\2/p'
}
# The kernel's core, if it leaves one here.
core=$(find "$tmp" -name 'core*')
if [ -n "$core" ]; then
    look core "$program" "$core"
    check core
    [ "$(frames core)" = "$(frames live)" ] || fail "frames of the core: $(cat "$tmp/out.core")"
    [ -n "$(frames core)" ] || fail "no frames: $(cat "$tmp/out.core")"
else
    echo "note: the kernel left no core here ($(cat /proc/sys/kernel/core_pattern))"
fi

# gcore stops reading at a guard that is not in the map: mprotect's are.
guard=mprotect
start "$program"
gcore -o "$tmp/own" "$pid" >"$tmp/gcore" 2>&1 || fail "gcore: $(cat "$tmp/gcore")"
kill -9 "$pid"
wait "$pid" 2>/dev/null || true
look gcore "$program" "$tmp/own.$pid"
check gcore
[ "$(frames gcore)" = "$(frames live)" ] || fail "frames of gcore: $(cat "$tmp/out.gcore")"

# Without symbols the layout is found by its first bytes; names, states and counts are still there.
strip -o "$tmp/stripped" "$program"
start "$tmp/stripped"
look bare -p "$pid"
check bare
gcore -o "$tmp/bare" "$pid" >"$tmp/gcore" 2>&1 || fail "gcore: $(cat "$tmp/gcore")"
kill -9 "$pid"
wait "$pid" 2>/dev/null || true
look bare_core "$tmp/stripped" "$tmp/bare.$pid"
check bare_core
pid=

# A program that has no fen.
timeout 50 gdb -q -nx -batch -ex "source $FEN_SOURCE_DIR/tools/fen-gdb.py" -ex "info fibers" \
    "$(command -v true)" >"$tmp/out.none" 2>&1 || true
has none 'no fen in this program'
echo "ok"
