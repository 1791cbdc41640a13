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
child=
guard=
trap 'for p in $pid $child; do kill -9 "$p" 2>/dev/null; done; rm -rf "$tmp"' EXIT

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

# session PID COMMAND... - each command's output in $tmp/out.said, behind a line `== COMMAND`
session() {
    of=$1
    shift
    for c; do
        set -- "$@" -ex "echo == $c\\n" -ex "$c"
        shift
    done
    timeout 50 gdb -q -nx -batch -ex "set confirm off" -ex "set width 0" -p "$of" \
        -ex "source $FEN_SOURCE_DIR/tools/fen-gdb.py" "$@" -ex "echo == end\\n" \
        >"$tmp/out.said" 2>&1 || true
}

# said N - what the Nth command said
said() { awk -v n="$1" '/^== / { i++; next } i == n' "$tmp/out.said"; }

# counts N LINES - so many frames did the Nth command show
counts() {
    n=$(said "$1" | grep -c '^#' || true)
    [ "$n" = "$2" ] || { cat "$tmp/out.said"; fail "command $1 shows $n frames, not $2"; }
}

# says N TEXT - exactly that, without Python's own words
says() {
    [ "$(said "$1")" = "$2" ] || { cat "$tmp/out.said"; fail "command $1 does not say: $2"; }
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
# The inner ones may be tail calls, and have a suffix of the link-time optimiser's.
has live '^#[0-9]+ +.*(fen_mutex_lock(_until)?|mutex_lock_slow[.a-z0-9]*) .*'
has live '^#[0-9]+ +.*mover \(arg='
has live '^#[0-9]+ +.*ledger \(arg='
has live '^Fiber 5 - \(parked mutex\)'
has live 'spawned at app\+0x[0-9a-f]+ \(stuck\.c:[0-9]+\)'
! grep -q 'corrupt' "$tmp/out.live" || fail "live: $(grep corrupt "$tmp/out.live")"

# Frames are counted without the thread's.
session "$pid" "fiber 2 bt" "fiber 2 bt 1" "fiber 2 bt 3" "fiber 2 bt -2" "fiber 2 bt full 2" \
    "fiber 2 bt -full 2" "fiber 2 bt -frame-arguments none 2" "fiber 2 bt -past-main 1 + 1" \
    "fiber 2 bt 1 + 1" "fiber apply all bt 1" "fiber 2 bt 2 full" "fiber 2 where 1" \
    "fiber 2 bt -past-main off 2"
all=$(said 1 | grep '^#')
[ "$(said 2)" = "$(echo "$all" | head -n 1)" ] || fail "bt 1: $(cat "$tmp/out.said")"
[ "$(said 3)" = "$(echo "$all" | head -n 3)" ] || fail "bt 3: $(cat "$tmp/out.said")"
[ "$(said 4)" = "$(echo "$all" | tail -n 2)" ] || fail "bt -2: $(cat "$tmp/out.said")"
for i in 5 6 7 9 13; do counts $i 2; done
said 5 | grep -q '^ ' || fail "bt full: no variables: $(cat "$tmp/out.said")"
counts 10 7 # a frame each
says 11 "A syntax error in expression, near \`full'." # as gdb says of a thread
counts 12 1

# The fiber and frame that are selected stay while another is looked at, and after a mistake.
session "$pid" "fiber 2" "up 4" "frame" "fiber 3 bt 1" "frame" "fiber apply 4 5 bt 1" "frame" \
    "fiber 99" "frame" "fiber 3 frame 99" "bt -3" "fiber off" "frame 2" "fiber 2 bt 1" "frame" \
    "fiber 2 bt -3"
at=$(said 3)
echo "$at" | grep -q '^#5 ' || fail "no frame 5: $(cat "$tmp/out.said")"
for i in 5 7 9; do says $i "$at"; done
said 11 | grep -q ' mover (' || fail "fiber 2 is not selected any more: $(cat "$tmp/out.said")"
[ "$(said 13)" = "$(said 15)" ] || fail "the thread's frame: $(cat "$tmp/out.said")"
counts 15 1

# A frame by the name of its function.
session "$pid" "fiber 2 frame mover" "fiber 2 bt" "fiber 1 locals app" "fiber 3 args mover"
n=$(said 1 | sed -n '1s/^#\([0-9]*\) .* mover (.*/\1/p')
said 2 | grep -q "^#$n .* mover (" || fail "frame mover: $(cat "$tmp/out.said")"
said 3 | grep -q '^back = {bank = 0x' || fail "locals app: $(cat "$tmp/out.said")"
said 4 | grep -q '^arg = ' || fail "args mover: $(cat "$tmp/out.said")"

# What is wrong is said plainly.
session "$pid" "fiber apply 3 77 78 bt" "fiber 2 locals abc" "fiber 2 frame -1" "fiber 2 nonsense" \
    "info fibers [" "fiber 2 bt abc" "fiber apply 3 4 frame 99" "fiber 2 locals 1 2" \
    "fiber abc" "fiber apply x bt"
says 1 "no fiber 77, 78; \`info fibers\` lists them"
says 2 "fiber 2 has no frame abc"
says 3 "neither number nor function of a frame: -1"
says 4 'Undefined command: "nonsense".  Try "help".'
said 5 | grep -q '^no regular expression: \[: ' || fail "a wrong pattern: $(cat "$tmp/out.said")"
says 6 'No symbol "abc" in current context.'
[ "$(said 7 | grep -c 'has no frame 99')" = 2 ] || fail "not both: $(cat "$tmp/out.said")"
says 8 "neither number nor function of a frame: 1 2"
said 9 | head -n 1 | grep -q '^not the number of a fiber: abc$' || fail "9: $(cat "$tmp/out.said")"
said 10 | head -n 1 | grep -q '^neither all nor the number of a fiber: x$' ||
    fail "10: $(cat "$tmp/out.said")"
! grep -q Python "$tmp/out.said" || fail "Python's words: $(cat "$tmp/out.said")"
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

# look_gcore NAME: what gcore writes of it, under the guard that is set.
look_gcore() {
    start "$program"
    gcore -o "$tmp/$1" "$pid" >"$tmp/gcore" 2>&1 || fail "gcore: $(cat "$tmp/gcore")"
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
    look "$1" "$program" "$tmp/$1.$pid"
}

# gcore stops reading at a guard that is not in the map: mprotect's are.
guard=mprotect
look_gcore gcore
check gcore
[ "$(frames gcore)" = "$(frames live)" ] || fail "frames of gcore: $(cat "$tmp/out.gcore")"

# A guard that is not in the map, where the kernel has it: no stacks, and that is said.
guard=madvise
look_gcore guarded
has guarded '^ +3  giro-to-savings +parked +mutex '
if ! grep -q ' mover (arg=' "$tmp/out.guarded"; then
    has guarded '^the stack of fiber 3 is not in this core; FEN_STACK_GUARD=mprotect '
    [ "$(grep -c '^  the stack of fiber [45] is not in' "$tmp/out.guarded")" = 2 ] ||
        fail "not both: $(cat "$tmp/out.guarded")"
    ! sed '1,/^7 fibers/d' "$tmp/out.guarded" | grep -q '^#' ||
        fail "frames: $(cat "$tmp/out.guarded")"
fi
guard=mprotect

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

# What waits for something outside: a descriptor, a process, the pool of threads.
"$FEN_BUILD_DIR/fen_waits" >"$tmp/waits" &
pid=$!
i=0
while [ $i -lt 100 ] && ! grep -q . "$tmp/waits"; do
    sleep 0.1
    i=$((i + 1))
done
fd=$(sed -n 's/^fd=\([0-9]*\) .*/\1/p' "$tmp/waits")
child=$(sed -n 's/.* pid=//p' "$tmp/waits")
sleep 0.3
session "$pid" "info fibers" "python thread_of(Fen().fiber(5).tid).switch()" "fiber 2" \
    "fiber 5 bt" "frame" "fiber 5" "bt" "fiber 6 bt"
kill -9 "$pid"
wait "$pid" 2>/dev/null || true
pid=
# The thread of fiber 5 shows its own frames, although fiber 2 was selected on it.
has said "^ +5  hog +running +thread "
said 3 | grep -q 'fen__' || fail "fiber 2: $(cat "$tmp/out.said")"
for i in 4 7; do
    said $i | grep -q '^#0 .*hog (' || fail "no frame of hog: $(cat "$tmp/out.said")"
    ! said $i | grep -q 'fen__park' || fail "frames of fiber 2: $(cat "$tmp/out.said")"
done
says 5 "$(said 3 | tail -n +2)"
says 8 "the stack of fiber 6 is empty: it hibernates; SIGQUIT shows its frames"
has said "^ +[0-9]+  watcher +parked +fd +[0-9.]+s  fd $fd events read  cpu "
has said "^ +[0-9]+  parent +parked +process +[0-9.]+s  pid $child  cpu "
has said "^ +[0-9]+  caller +parked +blocking +[0-9.]+s  cpu "

# A program that has no fen.
timeout 50 gdb -q -nx -batch -ex "source $FEN_SOURCE_DIR/tools/fen-gdb.py" -ex "info fibers" \
    "$(command -v true)" >"$tmp/out.none" 2>&1 || true
has none 'no fen in this program'
echo "ok"
