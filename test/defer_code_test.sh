#!/bin/sh
# defer_code_test.sh - what the block forms compile to: on every path within one instruction of the
# clean-up written by hand, no call that registers anything, no executable stack; and that the
# compiler refuses a jump over one.
. "$FEN_SOURCE_DIR/test/lib.sh"
[ "$(uname -m)" = x86_64 ] || skip "counts x86-64 instructions"
need objdump readelf

cat >"$tmp/code.c" <<'EOF'
#include <fen/defer.h>
#ifdef KEYWORD
#include <fen/stddefer.h>
#endif
void drop(void *p);
int work(int x);
int by_hand(void *p, int x)
{
    if (x < 0) {
        drop(p);
        return -1;
    }
    if (x == 7) {
        int r = work(1);
        drop(p);
        return r;
    }
    int r = work(x);
    drop(p);
    return r;
}
int by_block(void *p, int x)
{
    FEN_DEFER(drop, p);
    if (x < 0)
        return -1;
    if (x == 7)
        return work(1);
    return work(x);
}
#ifdef KEYWORD
int by_keyword(void *p, int x)
{
    defer { drop(p); };
    if (x < 0)
        return -1;
    if (x == 7)
        return work(1);
    return work(x);
}
#endif
EOF
cat >"$tmp/jump.c" <<'EOF'
#include <fen/defer.h>
void drop(void *p);
void over(void *p)
{
    if (p)
        goto out;
    FEN_DEFER(drop, p);
out:;
}
EOF

# Follows each path through a function and prints its number of instructions, sorted: the longest
# last. Padding and jumps do not count: which of two blocks comes first is the compiler's taste.
cat >"$tmp/paths.py" <<'EOF'
import re, subprocess, sys
out = subprocess.run(["objdump", "-dr", "--no-show-raw-insn", sys.argv[1]], capture_output=True,
                     text=True, check=True).stdout
code, calls, name = {}, {}, None
for line in out.splitlines():
    if m := re.match(r"[0-9a-f]+ <(\w+)>:", line):
        name = m[1]
        code[name], calls[name] = [], set()
    elif name and (m := re.match(r"\s+([0-9a-f]+):\s+(\S+)\s*(.*)", line)):
        if m[2].startswith("R_X86_64"):
            calls[name].add(re.sub(r"[-+]0x.*", "", m[3].split()[-1]))
        else:
            code[name].append((int(m[1], 16), m[2], m[3]))

def paths(ins):
    at = {a: i for i, (a, _, _) in enumerate(ins)}
    todo, found = [(0, 0, 0)], []
    while todo:
        i, n, steps = todo.pop()
        while True:
            steps += 1
            assert steps < 1000
            _, op, arg = ins[i]
            jump = op.startswith("j")
            n += not jump and not op.startswith(("nop", "xchg", "data16", "cs"))
            if op.startswith("ret"):
                found.append(n)
                break
            to = at.get(int(arg.split()[0], 16)) if jump else None
            if op == "jmp":
                if to is None:  # a tail call
                    found.append(n + 1)
                    break
                i = to
                continue
            if jump:
                todo.append((to, n, steps))
            i += 1
    return sorted(found)

hand = paths(code["by_hand"])
for f in sorted(set(code) & {"by_block", "by_keyword"}):
    mine = paths(code[f])
    assert len(mine) == len(hand), (f, mine, hand)
    assert all(m <= h + 1 for m, h in zip(mine, hand)), (f, mine, hand)
    assert calls[f] <= {"work", "drop"}, (f, calls[f])
    print(f"{f}: {mine}, by hand: {hand}")
assert any(c in calls["by_block"] for c in ("drop",)), calls
EOF

gcc_found=
for cc in gcc clang; do
    command -v $cc >/dev/null 2>&1 || continue
    gcc_found=$cc
    key=
    [ $cc = gcc ] && key=-DKEYWORD
    $cc -std=gnu17 -O2 -Wall -Wextra -Werror $key -I"$FEN_SOURCE_DIR/include" -c "$tmp/code.c" \
        -o "$tmp/$cc.o" || fail "$cc does not compile it"
    python3 "$tmp/paths.py" "$tmp/$cc.o" || fail "$cc: more than by hand"
    for o in -O0 -O2; do
        $cc -std=gnu17 $o $key -I"$FEN_SOURCE_DIR/include" -c "$tmp/code.c" -o "$tmp/stack.o"
        readelf -SW "$tmp/stack.o" | grep 'note.GNU-stack' | grep -q ' X ' &&
            fail "$cc $o: executable stack"
    done
    flag=
    [ $cc = gcc ] && flag=-Werror=jump-misses-init
    $cc -std=gnu17 $flag -I"$FEN_SOURCE_DIR/include" -c "$tmp/jump.c" -o "$tmp/jump.o" \
        2>"$tmp/err" && fail "$cc: a jump over a clean-up compiles"
    grep -q 'jump\|goto' "$tmp/err" || fail "$cc: another error: $(cat "$tmp/err")"
done
[ "$gcc_found" ] || skip "neither gcc nor clang"

# Where there is no sound block, the compiler says what to take instead.
if command -v clang >/dev/null 2>&1; then
    echo '#include <fen/stddefer.h>' >"$tmp/key.c"
    if ! echo __STDC_DEFER_TS25755__ | clang -E -P - | grep -q '^[0-9]'; then
        clang -I"$FEN_SOURCE_DIR/include" -c "$tmp/key.c" -o "$tmp/key.o" 2>"$tmp/err" &&
            fail "clang takes the keyword"
        grep -q 'use FEN_DEFER' "$tmp/err" || fail "no advice: $(cat "$tmp/err")"
    fi
fi
echo "code of defer: ok"
