#!/bin/sh
# memory_page_test.sh - what the admin listener says and does about memory.
. "$FEN_SOURCE_DIR/test/lib.sh"
need curl
"$FEN_PROGRAM" serve orders --fill-only --db="$tmp/orders.db" || fail "--fill-only"
"$FEN_PROGRAM" serve orders --quiet --db="$tmp/orders.db" --http-addr=127.0.0.1:0 \
    --admin-addr=0.0.0.0:0 --mem-percent=30 --mem-limit=2GiB >"$tmp/out" &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$tmp"' EXIT
for _ in $(seq 100); do
    grep -q '^admin on' "$tmp/out" && break
    sleep 0.1
done
port=$(sed -n 's/^admin on [^:]*:\([0-9]*\) .*/\1/p' "$tmp/out")
[ -n "$port" ] || fail "no admin listener: $(cat "$tmp/out")"
at=http://127.0.0.1:$port

# says STATUS TEXT CURL-ARGUMENTS...
says() {
    status=$1 text=$2
    shift 2
    got=$(curl -s -m 10 -w ' %{http_code}' "$@") || fail "curl $*"
    case $got in
    *"$text"*" $status") ;;
    *) fail "$*: '$got', expected $status and '$text'" ;;
    esac
}

says 200 '"percent":30,' "$at/debug/memory"
says 200 '"limit_bytes":2147483648,' "$at/debug/memory"
says 200 '{"returned_bytes":' -X POST "$at/debug/reclaim"
says 200 '"percent":75,' -X POST "$at/debug/memory?percent=75"
says 200 '"percent":"off","goal_bytes":0,' -X POST "$at/debug/memory?percent=off"
says 200 '"percent":200,' -X POST "$at/debug/memory?profile=latency"
says 200 '"slice_ns":40000,' "$at/debug/memory"
says 200 '"limit_bytes":1073741824,' -X POST "$at/debug/memory?limit=1GiB"
says 400 'TiB' -X POST "$at/debug/memory?limit=1G"
says 400 'in the query' -X POST -d percent=5 "$at/debug/memory"
says 400 'in the query' -X POST "$at/debug/memory?per=5"
says 400 'off' -X POST "$at/debug/memory?percent=0"
says 400 'balanced' -X POST "$at/debug/memory?profile=fast"
says 400 'off' -X POST "$at/debug/memory?percent=x&profile=balanced"
says 200 '"percent":200,' "$at/debug/memory" # nothing of a request that is refused is done
says 405 'not allowed' "$at/debug/reclaim"
says 200 '"memory": {"live_bytes":' "$at/debug/vars"
case "${FEN_SANITIZE:-}" in *address*) ;; *) # there blocks are the C library's
    says 200 '"classes":[{"block_bytes":' "$at/debug/vars"
    curl -s -m 10 "$at/debug/vars" | python3 -c '
import json, sys
for c in json.load(sys.stdin)["memory"]["classes"]:
    assert c["refills"] >= 0 and 0 <= c["out_blocks"] <= c["blocks"], c
    assert c["partial_spans"] <= c["spans"] and c["blocks"] >= 6 * c["spans"], c
' || fail "classes of /debug/vars"
    ;;
esac
says 200 'fen_mem_cycles_total{why="asked"} 1' "$at/metrics"
says 200 'fen_mem_limit_bytes 1073741824' "$at/metrics"
says 200 'fen_mem_slice_seconds_bucket{le="+Inf"}' "$at/metrics"

# another machine would come from another address; so does this one, by its own
other=$(hostname -I 2>/dev/null | cut -d' ' -f1)
case $other in
[0-9]*.*)
    says 403 'only from this machine' -X POST "http://$other:$port/debug/reclaim"
    says 403 'only from this machine' -X POST "http://$other:$port/debug/memory?percent=5"
    ;;
esac
trap 'rm -rf "$tmp"' EXIT
kill $server
wait $server || fail "exit code $?"
