#!/bin/sh
# orders_e2e_test.sh - fen serve orders from the outside: every answer, late stores, a stop under
# load, a kill under load.
# usage: orders_e2e_test.sh path/to/fen (or FEN_PROGRAM)   exit: 0, 1, or 77 when a tool is missing
set -u
fen=${1:-$FEN_PROGRAM}
for tool in curl sqlite3 python3; do
    command -v $tool >/dev/null || { echo "no $tool: skipped"; exit 77; }
done
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
dir=$(mktemp -d)
server=
backend=
bad=0

clean() {
    [ -n "$server" ] && kill -9 "$server" 2>/dev/null
    [ -n "$backend" ] && kill -9 "$backend" 2>/dev/null
    rm -rf "$dir"
}
trap clean EXIT
trap 'exit 1' INT TERM

fail() {
    echo "FAILED: $*"
    bad=1
}

# wait_line FILE: the port of its line "listening on HOST:PORT", within 10 s
wait_line() {
    for _ in $(seq 200); do
        port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$1")
        [ -n "$port" ] && return 0
        sleep 0.05
    done
    fail "no 'listening on' line in $1: $(cat "$1" "$dir/err")"
    exit 1
}

# start FLAGS...: a server on $url
start() {
    : >"$dir/out" # the line of the server before must not be taken for this one's
    "$fen" serve orders --http-addr=127.0.0.1:0 --admin-addr= --db="$dir/orders.db" "$@" \
        >"$dir/out" 2>"$dir/err" &
    server=$!
    wait_line "$dir/out"
    url=http://127.0.0.1:$port
}

# stop: SIGTERM, and the exit code must be 0
stop() {
    kill -TERM "$server"
    wait "$server"
    rc=$?
    server=
    [ $rc -eq 0 ] || fail "exit code $rc after SIGTERM: $(cat "$dir/err")"
}

# expect STATUS BODY PATH [curl arguments]; BODY may be a shell pattern
expect() {
    want=$1 pattern=$2 path=$3
    shift 3
    got=$(curl -s -m 10 -o "$dir/body" -w '%{http_code} %{content_type}' "$@" "$url$path")
    body=$(cat "$dir/body" 2>/dev/null)
    [ "${got%% *}" = "$want" ] || fail "$path $*: status $got, expected $want; body: $body"
    case $body in
    $pattern) ;;
    *) fail "$path $*: body is '$body', expected '$pattern'" ;;
    esac
    case "$got $*" in
    *" -I") ;; # a head, no JSON
    *application/json*)
        [ "$(sqlite3 :memory: "SELECT json_valid(CAST(readfile('$dir/body') AS TEXT))")" = 1 ] ||
            fail "$path: not JSON: $body"
        ;;
    esac
}

length() { sqlite3 :memory: "SELECT json_array_length(CAST(readfile('$dir/body') AS TEXT))"; }
rows() { sqlite3 "$dir/orders.db" "SELECT count(*) FROM orders"; }

# usage TEXT FLAGS...: exit code 2 and TEXT on one line of stderr
usage() {
    text=$1
    shift
    "$fen" serve "$@" >"$dir/out" 2>"$dir/err" </dev/null
    rc=$?
    [ $rc -eq 2 ] || fail "fen serve $*: exit code $rc, expected 2"
    grep -qF -- "$text" "$dir/err" || fail "fen serve $*: '$(cat "$dir/err")', expected '$text'"
    [ "$(wc -l <"$dir/err")" -eq 1 ] || fail "fen serve $*: more than one line"
}

echo "== flags and files"
usage "unknown flag --colour" orders --colour=red
usage "unknown service 'ordres'" ordres
usage "which service" --db=x
usage "expected a time" orders --deadline=100
usage "price-file" orders --price-file="$dir/none" --db="$dir/orders.db"
usage "$dir/none/x.db" orders --db="$dir/none/x.db"
echo "dear aunt, this is not a database at all, I hope that you are well" >"$dir/letter"
usage "not an SQLite database" orders --db="$dir/letter"
usage "expected host:port" orders --db="$dir/orders.db" --backend=nowhere
"$fen" serve orders --fill-only --db="$dir/orders.db" || fail "--fill-only"
[ "$(rows)" = 100000 ] || fail "$(rows) orders after --fill-only"

echo "== answers"
python3 "$here/orders_backend.py" >"$dir/backend" 2>"$dir/err" &
backend=$!
wait_line "$dir/backend"
backend_port=$port
start --deadline=500ms --backend=127.0.0.1:"$backend_port" # a slow disk is not what is tested
expect 200 "ok" /
row=$(sqlite3 "$dir/orders.db" "SELECT json_object('id',id,'customer',customer,'item',item,
    'quantity',quantity,'price_cents',price_cents,'status',status,'created_at',created_at)
    FROM orders WHERE id=17")
expect 200 "$row" /orders/17
expect 404 '{"error":*}' /orders/999999999
expect 400 '{"error":*}' /orders/abc
expect 400 '{"error":*}' /orders/1.5
expect 400 '{"error":*}' /orders/0
expect 400 '{"error":*}' /orders/99999999999999999999
expect 404 '*' /nothing
expect 405 '*' /orders/1 -X DELETE
expect 200 '\[{"id":*}\]' '/orders?customer=5'
[ "$(length)" = 10 ] ||
    fail "not ten orders of customer 5"
expect 200 '\[{"id":*}\]' '/orders?customer=5&limit=2'
[ "$(length)" = 2 ] ||
    fail "limit=2 not kept"
expect 200 '\[\]' '/orders?customer=123456789'
expect 400 '*customer*missing*' /orders
expect 400 '*customer*' '/orders?customer=x'
expect 400 '*limit*' '/orders?customer=5&limit=0'
expect 400 '*limit*' '/orders?customer=5&limit=101'

echo "== new orders"
expect 201 '{"id":100001,"customer":42,"item":"tea “å”","quantity":2,"price_cents":350,'\
'"status":"new","created_at":1*}' \
    /orders -d '{"customer":42,"item":"tea \u201cå\u201d","quantity":2,"price_cents":350}'
made=$body
expect 200 "$made" /orders/100001
curl -s -D "$dir/head" -o /dev/null "$url/orders" \
    -d '{"customer":43,"item":"tea","quantity":2,"price_cents":350}'
grep -q '^Location: /orders/100002' "$dir/head" || fail "no Location: $(cat "$dir/head")"
expect 200 "\\[$made,*" '/orders?customer=42'
expect 400 '{"error":*}' /orders -d ''
expect 400 '{"error":*}' /orders -d '{"customer":42,'
expect 400 '{"error":*}' /orders -d '[1]'
expect 400 '*item*' /orders -d '{"customer":42,"quantity":2,"price_cents":350}'
expect 400 '*quantity*' /orders -d '{"customer":42,"item":"a","quantity":"2","price_cents":350}'
expect 400 '*quantity*' /orders -d '{"customer":42,"item":"a","quantity":0,"price_cents":350}'
expect 400 '*price_cents*' /orders -d '{"customer":42,"item":"a","quantity":1,"price_cents":-1}'
expect 400 '*customer*' /orders -d '{"customer":0,"item":"a","quantity":1,"price_cents":1}'
expect 400 '*item*' /orders -d '{"customer":1,"item":"","quantity":1,"price_cents":1}'
expect 400 '*item*' /orders -d '{"customer":1,"item":"a\u0000b","quantity":1,"price_cents":1}'
long=$(printf '%0129d' 0)
expect 400 '*item*' /orders \
    -d "{\"customer\":1,\"item\":\"$long\",\"quantity\":1,\"price_cents\":1}"
head -c 70000 /dev/zero | tr '\0' x >"$dir/big"
expect 413 '*' /orders --data-binary @"$dir/big" -H 'Expect:'
[ "$(rows)" = 100002 ] || fail "a refused order was stored: $(rows)"

# quotes: what each kind of answer becomes; the server is asked one thing at a time
quotes() {
    expect 200 '{"id":7,"price":1007}' /quotes/7
    expect 200 '{"id":8,"price":1008}' /quotes/8
    expect 404 '*' /quotes/404
    expect 502 '*' /quotes/500
    expect 502 '*' /quotes/666
    expect 502 '*' /quotes/700
    expect 200 '{"id":9,"price":1009}' /quotes/9
    expect 502 '*' /quotes/701
    expect 200 '{"id":9,"price":1009}' /quotes/9
    expect 400 '*' /quotes/x
    expect 405 '*' /quotes/7 -X POST -d ''
    expect 200 '*Content-Length: 21*' /quotes/7 -I
    expect 200 '{"id":321,"price":1321}' /quotes/321 # answered with Connection: close
    expect 200 '{"id":10,"price":1010}' /quotes/10
}

# together N: N clients at once, each with a quote of its own, and each gets that one
together() {
    curl -s -m 10 --no-progress-meter -Z --parallel-max "$1" "$url/quotes/[1001-$((1000 + $1))]" \
        -o "$dir/many.#"1 || fail "$1 quotes at once: curl says $?"
    for n in $(seq 1001 $((1000 + $1))); do
        [ "$(cat "$dir/many.$n")" = "{\"id\":$n,\"price\":$((n + 1000))}" ] ||
            fail "quote $n of $1 at once: $(cat "$dir/many.$n")"
    done
    rm -f "$dir"/many.*
}

# by_and_by PATH: 200 within 5 s
by_and_by() {
    for _ in $(seq 25); do
        [ "$(curl -s -m 10 -o /dev/null -w '%{http_code}' "$url$1")" = 200 ] && return
        sleep 0.2
    done
    fail "$1: no 200 within 5 s"
}

backend_again() {
    python3 "$here/orders_backend.py" "$backend_port" >"$dir/backend" 2>>"$dir/err" &
    backend=$!
    wait_line "$dir/backend"
}

echo "== the back end"
quotes
together 50
expect 504 '*' /quotes/1000 # late: those behind it wait until the connection is given up
by_and_by /quotes/9
curl -s -m 10 -o /dev/null "$url/quotes/1000" & # killed with a question on its way
slow=$!
sleep 0.2
kill -9 $backend
wait $backend 2>/dev/null
backend=
wait $slow
expect 502 '*' /quotes/11
backend_again
expect 200 '{"id":11,"price":1011}' /quotes/11
together 50

echo "== a locked file"
(echo "BEGIN IMMEDIATE;"; sleep 2; echo "ROLLBACK;") | sqlite3 "$dir/orders.db" &
locker=$!
sleep 0.3
expect 504 '*' /orders -d '{"customer":1,"item":"late","quantity":1,"price_cents":1}'
expect 200 '{"id":17,*' /orders/17
wait $locker
expect 201 '*' /orders -d '{"customer":1,"item":"on time","quantity":1,"price_cents":1}'
[ "$(sqlite3 "$dir/orders.db" "SELECT count(*) FROM orders WHERE item='late'")" = 0 ] ||
    fail "an order that was answered 504 before it began is stored"
stop
[ -e "$dir/orders.db-wal" ] && fail "a log is left after a clean stop"

echo "== a slow store"
start --store-delay=1s --deadline=50ms
expect 504 '*' /orders/17
expect 504 '*' '/orders?customer=5'
expect 504 '*' /orders -d '{"customer":1,"item":"a","quantity":1,"price_cents":1}'
expect 200 ok /
expect 404 '*' /quotes/7
stop

echo "== the back end, a connection for each request"
start --deadline=500ms --backend=127.0.0.1:"$backend_port" --backend-conns=0
quotes
together 50
expect 504 '*' /quotes/1000
expect 200 '{"id":9,"price":1009}' /quotes/9
kill -9 $backend
wait $backend 2>/dev/null
backend=
expect 502 '*' /quotes/11
stop

# load MODE: until the server goes; acknowledged ids into acks, the verdict on the last line
load() {
    : >"$dir/acks"
    python3 "$here/orders_load.py" "$port" "$1" "$dir/acks" >"$dir/load" 2>&1 &
    loader=$!
    for _ in $(seq 100); do
        [ "$(wc -l <"$dir/acks")" -gt 200 ] && break
        sleep 0.05
    done
}

# all acknowledged orders are in the file, and the file is sound
check_acks() {
    n=$(wc -l <"$dir/acks")
    [ "$n" -gt 200 ] || fail "$1: only $n orders were acknowledged: $(cat "$dir/load")"
    lost=$(sqlite3 "$dir/orders.db" "CREATE TEMP TABLE acks(id INTEGER);" ".import $dir/acks acks" \
        "SELECT count(*) FROM acks WHERE id NOT IN (SELECT id FROM orders WHERE item='load')")
    [ "$lost" = 0 ] || fail "$1: $lost of $n acknowledged orders are lost"
    [ "$(sqlite3 "$dir/orders.db" 'PRAGMA integrity_check')" = ok ] || fail "$1: file damaged"
}

echo "== SIGTERM under load"
start --deadline=5s
load term
stop
wait $loader || fail "SIGTERM under load: $(tail -3 "$dir/load")"
check_acks "SIGTERM"

echo "== kill -9 under load"
start --deadline=5s
load kill
kill -9 "$server"
wait "$server" 2>/dev/null
server=
wait $loader
check_acks "kill -9"
start
expect 200 '{"id":17,*' /orders/17
stop

[ $bad -eq 0 ] && echo "all as expected"
exit $bad
