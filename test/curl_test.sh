#!/bin/sh
# curl_test.sh - examples/curl against a fen server: transfers at once in fibers, and a refusal.
. "$FEN_SOURCE_DIR/test/lib.sh"
example=$FEN_BUILD_DIR/example_curl
[ -x "$example" ] || skip "libcurl not installed"

"$FEN_PROGRAM" serve orders --http-addr=127.0.0.1:0 --admin-addr= --db="$tmp/orders.db" \
    >"$tmp/out" 2>"$tmp/err" &
server=$!
trap 'kill -9 $server 2>/dev/null; rm -rf "$tmp"' EXIT
port=
for _ in $(seq 400); do
    port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$tmp/out" 2>/dev/null) || true
    [ -n "$port" ] && break
    sleep 0.05
done
[ -n "$port" ] || fail "the server did not start: $(cat "$tmp/err")"

urls=
for i in $(seq 30); do urls="$urls http://127.0.0.1:$port/nothing/$i"; done
# shellcheck disable=SC2086
"$example" $urls >"$tmp/got" || fail "the example failed: $(cat "$tmp/got")"
n=$(grep -c 'status 404, [1-9][0-9]* bytes$' "$tmp/got") || true
[ "$n" = 30 ] || fail "$n answers of 30: $(cat "$tmp/got")"

"$example" http://127.0.0.1:1/ >"$tmp/got" && fail "nobody listens there"
grep -q "status 0, 0 bytes, Couldn't connect" "$tmp/got" || fail "$(cat "$tmp/got")"
