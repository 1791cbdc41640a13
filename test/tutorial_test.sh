#!/bin/sh
# tutorial_test.sh - every program of docs/tutorial prints what its chapter shows. Those whose
# output is always the same have it beside them (examples/tutorial/NAME.out); services are asked.
. "$FEN_SOURCE_DIR/test/lib.sh"
need python3
dir=$FEN_SOURCE_DIR/examples/tutorial
started=
trap 'for p in $started; do kill -9 "$p" 2>/dev/null; done; rm -rf "$tmp"' EXIT

# They wait more than they work: all at once.
for out in "$dir"/*.out; do
    name=$(basename "$out" .out)
    timeout 40 "$FEN_BUILD_DIR/tutorial_$name" >"$tmp/$name" 2>"$tmp/$name.err" &
    eval "pid_$name=$!"
    started="$started $!"
done
for out in "$dir"/*.out; do
    name=$(basename "$out" .out)
    eval "wait \$pid_$name" || fail "$name: exit code $?: $(cat "$tmp/$name" "$tmp/$name.err")"
    diff "$out" "$tmp/$name" || fail "$name prints something else"
done
started=
for c in "$dir"/*.c; do # no program without a check: an .out, or a word below
    name=$(basename "$c" .c)
    [ -f "$dir/$name.out" ] || [ "$name" = bill ] || fail "nobody looks at $name"
done

# debug: the report names both fibers, what they wait for and their labels.
for side in left right; do
    grep -q "state=parked wait=send .* labels=side=$side" "$tmp/debug.err" || {
        cat "$tmp/debug.err"
        fail "no report of the $side side"
    }
done

# ready FILE: waits for "listening on HOST:PORT" and prints the port.
ready() {
    for _ in $(seq 400); do
        port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$1")
        [ -z "$port" ] || { echo "$port"; return; }
        sleep 0.05
    done
}

: >"$tmp/bill" # there before ready looks
"$FEN_BUILD_DIR/tutorial_bill" 127.0.0.1:0 >"$tmp/bill" 2>&1 &
started=$!
port=$(ready "$tmp/bill")
[ -n "$port" ] || fail "bill did not start: $(cat "$tmp/bill")"
python3 - "$port" <<'PY' || fail "bill answers something else"
import sys, urllib.error, urllib.request
def ask(path, tenant=None):
    r = urllib.request.Request(f"http://127.0.0.1:{sys.argv[1]}{path}",
                               headers={"X-Tenant": tenant} if tenant else {})
    try:
        with urllib.request.urlopen(r) as f:
            return f.status, f.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()
got = [ask("/primes/20000", "acme"), ask("/primes/x"), ask("/wait/10", "zeta"), ask("/wait/5000")]
assert got[0] == (200, '{"below":20000,"primes":2262}'), got
assert got[1][0] == 400 and got[2] == (200, "waited\n") and got[3][0] == 504, got
PY
kill -TERM "$started"
wait "$started" || fail "bill: exit code $?: $(cat "$tmp/bill")"
started=
for row in 'acme  *GET /primes/{below}  *1 ' 'zeta  *GET /wait/{ms}  *1 ' '^books: requests'; do
    grep -q "$row" "$tmp/bill" || fail "the bill lacks '$row': $(cat "$tmp/bill")"
done

# chat as a server: a member that drops its line is announced, SIGINT ends it with members inside.
: >"$tmp/serve"
"$FEN_BUILD_DIR/tutorial_chat" 127.0.0.1:0 >"$tmp/serve" 2>&1 &
started=$!
port=$(ready "$tmp/serve")
[ -n "$port" ] || fail "chat did not start: $(cat "$tmp/serve")"
python3 - "$port" "$started" <<'PY' || fail "chat answers something else"
import os, signal, socket, struct, sys
def come(name):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
    s.sendall(name + b"\n")
    f = s.makefile("rb")
    assert f.readline() == name + b" is here\n"
    return s, f
ann, ann_reads = come(b"ann")
bob, bob_reads = come(b"bob")
assert ann_reads.readline() == b"bob is here\n"
bob.sendall(b"one\ntw")
bob.sendall(b"o\n")
assert [ann_reads.readline() for _ in "12"] == [b"bob: one\n", b"bob: two\n"]
bob.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
bob_reads.close()
bob.close()  # a reset
assert ann_reads.readline() == b"bob left\n"
eve, eve_reads = come(b"eve")
eve.sendall(b"x" * 1000)  # no line is that long: thrown out
assert ann_reads.readline() == b"eve is here\n" and ann_reads.readline() == b"eve left\n"
os.kill(int(sys.argv[2]), signal.SIGINT)
PY
wait "$started" || fail "chat: exit code $?: $(cat "$tmp/serve")"
started=

# an address that is none is named
! "$FEN_BUILD_DIR/tutorial_chat" nonsense 2>"$tmp/serve" || fail "chat listens on nonsense"
grep -q '^chat: nonsense: ' "$tmp/serve" || fail "$(cat "$tmp/serve")"
echo "ok"
