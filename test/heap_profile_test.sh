#!/bin/sh
# heap_profile_test.sh - the heap profile of a running service, and what reads it: fen heap top, fen
# capture, fen diff, go tool pprof where Go is installed.
. "$FEN_SOURCE_DIR/test/lib.sh"
need curl
fen=$FEN_PROGRAM
"$fen" serve orders --fill-only --db="$tmp/orders.db" || fail "--fill-only"
FEN_HEAP_PROFILE_RATE=1 "$fen" serve orders --quiet --db="$tmp/orders.db" \
    --http-addr=127.0.0.1:0 --admin-addr=127.0.0.1:0 >"$tmp/out" &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$tmp"' EXIT
for _ in $(seq 100); do
    grep -q '^admin on' "$tmp/out" && break
    sleep 0.1
done
port=$(sed -n 's/^admin on [^:]*:\([0-9]*\) .*/\1/p' "$tmp/out")
[ -n "$port" ] || fail "no admin listener: $(cat "$tmp/out")"
at=http://127.0.0.1:$port

# refuses TEXT COMMAND...: exit 2 and one line that holds the text.
refuses() {
    text=$1 rc=0
    shift
    "$@" >"$tmp/said" 2>&1 || rc=$?
    [ $rc = 2 ] || fail "$*: exit $rc"
    grep -qF -- "$text" "$tmp/said" || fail "$*: $(cat "$tmp/said")"
}

curl -sf -m 20 -o "$tmp/heap.pb.gz" "$at/debug/pprof/heap" || fail "no profile"
gzip -t "$tmp/heap.pb.gz" || fail "not gzip"
gunzip <"$tmp/heap.pb.gz" >"$tmp/heap.pb"
if [ "$FEN_SANITIZE" != address ]; then # there the blocks are the C library's
    for by in inuse_space inuse_objects alloc_space alloc_objects; do
        "$fen" heap top --by=$by --rows=100000 "$tmp/heap.pb.gz" >"$tmp/top" || fail "top $by"
        grep -q ' fen_server_new$' "$tmp/top" || fail "no fen_server_new by $by"
        grep -Eq ' (fen_alloc|fen_calloc|fen__mem_[a-z]+|fen__heap_[a-z]+)$' "$tmp/top" &&
            fail "the heap's own frames by $by"
        "$fen" heap top --by=$by --rows=100000 "$tmp/heap.pb" | cmp -s - "$tmp/top" ||
            fail "another list from the plain file"
    done
    "$fen" heap top --label=fiber "$tmp/heap.pb" | grep -q ' main$' || fail "no fiber main"
    refuses '--label=foo: the profile has ' "$fen" heap top --label=foo "$tmp/heap.pb"
    grep -q ' fiber' "$tmp/said" || fail "$(cat "$tmp/said")"
    "$fen" heap top "$at/debug/pprof/heap" | grep -q '^inuse_space, in all' || fail "top of a URL"
    # with every block noted, what it says is in use is what the heap says
    live=$(curl -sf -m 5 "$at/metrics" | sed -n 's/^fen_mem_live_bytes //p')
    [ "$live" -gt 10000 ] || fail "live bytes $live"
fi

for name in one two; do
    "$fen" capture --for=300ms --every=50ms --name="run <$name>" --out="$tmp/$name.cap" "$at" ||
        fail "capture"
done
[ "$(grep -c '^point ' "$tmp/one.cap")" = 7 ] || fail "$(cat "$tmp/one.cap")"
"$fen" diff --out="$tmp/page.html" "$tmp/one.cap" "$tmp/two.cap" >"$tmp/table" || fail "diff"
grep -q 'heap in use, mean' "$tmp/table" || fail "$(cat "$tmp/table")"
[ "$(grep -o 'class="line s[ab]"' "$tmp/page.html" | wc -l)" = 2 ] || fail "not two curves"
grep -q 'run &lt;one&gt;' "$tmp/page.html" || fail "a name is not quoted"

head -c 300 "$tmp/heap.pb.gz" >"$tmp/short.pb.gz"
gzip -c "$tmp/heap.pb" >"$tmp/packed.pb.gz"
: >"$tmp/empty"
refuses 'cut short' "$fen" heap top "$tmp/short.pb.gz"
refuses 'gunzip it first' "$fen" heap top "$tmp/packed.pb.gz"
refuses 'not a profile' "$fen" heap top "$tmp/empty"
refuses 'not a profile' "$fen" heap top "$tmp/one.cap"
refuses 'No such file' "$fen" heap top "$tmp/none"
refuses 'usage' "$fen" heap
refuses 'bottom: unknown word; accepted: top' "$fen" heap bottom "$tmp/heap.pb"
refuses 'usage' "$fen" heap top
refuses 'alloc_objects alloc_space inuse_objects inuse_space' \
    "$fen" heap top --by=size "$tmp/heap.pb"
refuses 'answered 404' "$fen" heap top "$at/debug/pprof/none"
refuses 'Connection refused' "$fen" heap top http://127.0.0.1:1/x
refuses 'expected http' "$fen" heap top http://:80/
refuses 'usage' "$fen" capture
refuses 'ftp://x: expected http://' "$fen" capture ftp://x
for usage in 'heap top .*FILE|URL' 'capture .*--for=10s.*http://' 'diff .*CAPTURE CAPTURE'; do
    "$fen" "${usage%% *}" --help >"$tmp/said" || fail "${usage%% *} --help"
    grep -q "^usage: fen $usage" "$tmp/said" || fail "$(cat "$tmp/said")"
    "$fen" "${usage%% *}" -h | cmp - "$tmp/said" || fail "-h is not --help"
done
for name in '' '   ' 'two
lines' "$(printf '%64s.' '')"; do # fen diff could not read them back
    refuses '--name: expected' "$fen" capture --for=10ms --every=10ms --name="$name" "$at"
done
refuses 'points' "$fen" capture --for=1000s "$at"
refuses 'usage' "$fen" diff "$tmp/one.cap"
refuses 'not a capture' "$fen" diff "$tmp/one.cap" "$tmp/heap.pb"
sed 's/^point.*/point x/' "$tmp/one.cap" >"$tmp/bad.cap"
refuses 'point x' "$fen" diff "$tmp/bad.cap" "$tmp/one.cap"

if command -v go >/dev/null 2>&1 && [ "$FEN_SANITIZE" != address ]; then
    go tool pprof -top "$at/debug/pprof/heap" >"$tmp/go" 2>&1 || fail "go: $(cat "$tmp/go")"
    grep -q '^Type: inuse_space' "$tmp/go" || fail "go: $(cat "$tmp/go")"
    grep -q ' fen_server_new$' "$tmp/go" || fail "go sees no fen_server_new: $(cat "$tmp/go")"
else
    echo "skipped: go not installed, so its pprof did not look"
fi
trap 'rm -rf "$tmp"' EXIT
kill $server
wait $server || fail "exit code $?"

# the profiles of docs/heap-profile.md
"$fen" heap top "$FEN_SOURCE_DIR/docs/profiles/history-before.pb.gz" | sed -n 3p |
    grep -q ' new_row$' || fail "new_row does not lead the profile before"
"$fen" heap top --rows=1000 "$FEN_SOURCE_DIR/docs/profiles/history-after.pb.gz" >"$tmp/top"
grep -q ' after$' "$tmp/top" || fail "no after"
! grep -q ' new_row$' "$tmp/top" || fail "new_row after"
