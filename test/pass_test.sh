#!/bin/sh
# pass_test.sh - examples/pass under strace: a file goes out by sendfile alone, a connection is
# passed on by splice alone, and what arrives is what was sent. Every system call is looked at, so
# there is no other way for the bytes to come to user space and back.
. "$FEN_SOURCE_DIR/test/lib.sh"
[ -z "${FEN_SANITIZE:-}" ] || skip "sanitizers and strace do not go together"
need python3 curl strace
example=$FEN_BUILD_DIR/example_pass
[ -x "$example" ] || skip "the examples are not built"
strace -o /dev/null true 2>/dev/null || skip "strace may not trace here"

server=""
proxy=""
trap 'kill -9 $server $proxy 2>/dev/null || true; rm -rf "$tmp"' EXIT
head -c 9000000 /dev/urandom >"$tmp/blob"

# port FILE - where the program says it listens.
port() {
    for _ in $(seq 200); do
        sed -n 's/^listening on .*://p' "$1" | grep . && return 0
        sleep 0.05
    done
    fail "it does not listen: $(cat "$1")"
}

# ended PREFIX PID - ends a traced program; its traces are whole then.
ended() {
    kill -9 "$2"
    wait "$2" 2>/dev/null || true
    for _ in $(seq 200); do
        [ "$(grep -l '^+++' "$1".* | wc -l)" = "$(ls "$1".* | wc -l)" ] && return 0
        sleep 0.05
    done
    fail "strace has not ended"
}

# -D: the program is our child, and strace its companion; -ff: a file a thread, lines are whole.
strace -D -ff -yy -o "$tmp/file" "$example" file "$tmp/blob" 127.0.0.1:0 >"$tmp/out" 2>&1 &
server=$!
at=127.0.0.1:$(port "$tmp/out")
strace -D -ff -yy -o "$tmp/proxy" "$example" to "$at" 127.0.0.1:0 >"$tmp/out2" 2>&1 &
proxy=$!
by=127.0.0.1:$(port "$tmp/out2")
for _ in 1 2 3; do
    curl -sS -m 20 "http://$by/" >"$tmp/got" || fail "curl"
    cmp "$tmp/blob" "$tmp/got" || fail "not what was sent"
done
ended "$tmp/proxy" "$proxy"
ended "$tmp/file" "$server"

python3 - "$tmp" <<'P' || fail "see above"
import collections, glob, re, sys

SENT = 3 * 9000000
CALL = re.compile(r"(\w+)\((.*)\) += (\d+)")
MOVES = re.compile(r"p?(read|write)v?2?(64)?$|recv|send|splice|tee|copy_file_range|mmap|io_uring")


def moved(prefix, what):
    """Bytes by call, of those that move bytes from or to a descriptor that looks like `what`."""
    sums = collections.Counter()
    for name in glob.glob(f"{sys.argv[1]}/{prefix}.*"):
        for line in open(name, encoding="utf-8", errors="replace"):
            m = CALL.match(line)
            if m and MOVES.match(m[1]) and re.search(what, m[2]):
                sums[m[1]] += int(m[3])
    print(prefix, what, dict(sums))
    return sums


of_file = moved("file", "<[^>]*/blob>")
assert of_file == {"sendfile": SENT}, "the file is touched by sendfile only, and is sent once"
tcp = moved("file", "<TCP:")
heads = tcp.pop("recvfrom"), tcp.pop("sendto")
assert tcp == {"sendfile": SENT}, tcp
assert 0 < heads[0] < 3 * 400 and 0 < heads[1] < 3 * 160, "nothing but three heads each way"
passed = moved("proxy", "<TCP:|<pipe:")
assert set(passed) == {"splice"}, "no read and no write"
# Each byte twice: into a pipe and out of it; the file, and the heads that the server counted.
assert passed["splice"] == 2 * (SENT + sum(heads)), passed
P
echo "passed on: ok"
