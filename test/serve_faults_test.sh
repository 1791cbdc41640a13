#!/bin/sh
# serve_faults_test.sh - fen serve with wrong flags, files and addresses: one line on standard
# error, exit code 2, within 2 seconds, and nothing on standard output.
. "$FEN_SOURCE_DIR/test/lib.sh"
need python3 sqlite3
fen=$FEN_PROGRAM
limit=2
[ -z "${FEN_SANITIZE:-}" ] || limit=10

bad=0
complain() { echo "failed: $*"; bad=1; }

# wrong TEXT ARGUMENTS...: TEXT must be in the one line
wrong() {
    text=$1
    shift
    rc=0
    timeout $limit "$fen" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || rc=$?
    said=$(cat "$tmp/err")
    [ $rc -ne 124 ] || complain "fen $*: still runs after $limit s"
    [ $rc -eq 2 ] || complain "fen $*: exit code $rc, expected 2: $said"
    [ "$(wc -l <"$tmp/err")" -eq 1 ] || complain "fen $*: not one line: '$said'"
    case $said in
    *"$text"*) ;;
    *) complain "fen $*: '$said', expected '$text'" ;;
    esac
    [ ! -s "$tmp/out" ] || complain "fen $*: also said '$(cat "$tmp/out")'"
}

# serve TEXT FLAGS...: with a good database unless a later flag says otherwise
serve() {
    text=$1
    shift
    wrong "$text" serve orders --db="$tmp/good.db" --http-addr=127.0.0.1:0 --admin-addr= "$@"
}

"$fen" serve orders --fill-only --db="$tmp/good.db" || fail "--fill-only"

# a port that somebody listens on
python3 -c '
import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
print(s.getsockname()[1], flush=True)
time.sleep(120)' >"$tmp/port" &
holder=$!
trap 'kill $holder; rm -rf "$tmp"' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -s "$tmp/port" ] && break
    sleep 0.1
done
port=$(cat "$tmp/port")

# memory
FEN_MEMLIMIT=1G serve "FEN_MEMLIMIT=1G: expected a whole number with B, KiB, MiB, GiB or TiB"
FEN_MEMLIMIT=12MB serve "FEN_MEMLIMIT=12MB"
FEN_MEM_PERCENT=half serve "FEN_MEM_PERCENT=half: expected a whole number from 1 to 10000, or off"
FEN_MEM_PROFILE=big serve "FEN_MEM_PROFILE=big: expected balanced, latency or container"
serve "--mem-limit=1G: expected" --mem-limit=1G
serve "--mem-percent=0" --mem-percent=0
serve "--mem-profile=none" --mem-profile=none
FEN_HEAP_PROFILE_RATE=1K serve "FEN_HEAP_PROFILE_RATE=1K: expected a whole number"
serve "--heap-profile-rate=0: expected" --heap-profile-rate=0
FEN_DEBUG=memtrace=yes serve "FEN_DEBUG"

# addresses
serve "Address already in use" --http-addr=127.0.0.1:"$port"
serve "127.0.0.1:$port" --http-addr=127.0.0.1:"$port"
serve "Address already in use" --admin-addr=127.0.0.1:"$port"
serve "nowhere" --http-addr=nowhere
serve "localhost:80" --http-addr=nowhere:80
serve "127.0.0.1:70000" --http-addr=127.0.0.1:70000
serve "127.0.0.1:" --http-addr=127.0.0.1:
serve "1.2.3:80" --http-addr=1.2.3:80
serve "192.0.2.1:80" --http-addr=192.0.2.1:80
serve "x:1" --admin-addr=x:1
serve "cannot listen" --http-addr=
serve "--backend=nowhere: expected host:port" --backend=nowhere

# flags
wrong "unknown flag --colour" serve orders --colour=red
wrong "unexpected word 'more'" serve orders more
wrong "unknown service 'ordres'" serve ordres
wrong "say which service: fen serve orders" serve
for help in --help -h; do
    "$fen" serve $help >"$tmp/out" || complain "fen serve $help: exit code $?"
    grep -q '^usage: fen serve orders' "$tmp/out" || complain "fen serve $help: $(cat "$tmp/out")"
    "$fen" $help | grep -q '^usage: fen COMMAND' || complain "fen $help"
done
serve "--procs=-1" --procs=-1
serve "--procs=257" --procs=257
serve "--procs=two" --procs=two
serve "--procs" --procs
serve "--backend-conns=65" --backend-conns=65
serve "--backend-conns=-1" --backend-conns=-1
serve "--deadline=0ms: expected a time such as 500us, 20ms, 4s or 2m, from 1ms to 1h" \
    --deadline=0ms
serve "--deadline=100" --deadline=100
serve "--deadline=-1s" --deadline=-1s
serve "--max-body=0" --max-body=0
serve "--max-body=99999999999999999999" --max-body=99999999999999999999
serve "--quiet=maybe" --quiet=maybe
serve "--db needs a value" --db
FEN_PROCS=many serve "FEN_PROCS"
FEN_STACK_GUARD=tall serve "FEN_STACK_GUARD"

# price files: the name and the line
printf 'cpu_hour = 0.12\n# fine\ncpu_hour = lots\n' >"$tmp/prices"
serve "$tmp/none" --price-file="$tmp/none"
serve "$tmp" --price-file="$tmp"
serve "$tmp/prices:" --price-file="$tmp/prices"
printf 'no such thing = 1\n' >"$tmp/prices"
serve "$tmp/prices:1" --price-file="$tmp/prices"
head -c 300000 /dev/zero | tr '\0' 9 >"$tmp/prices"
serve "$tmp/prices" --price-file="$tmp/prices"
printf '\000\377' >"$tmp/prices"
serve "$tmp/prices" --price-file="$tmp/prices"
: >"$tmp/prices" # nothing in it: the defaults would be a surprise or are said to be so
rc=0
timeout $limit "$fen" serve orders --fill-only --db="$tmp/good.db" --price-file="$tmp/prices" \
    >"$tmp/out" 2>"$tmp/err" || rc=$?
[ $rc -eq 0 ] || [ $rc -eq 2 ] || fail "an empty price file: $rc"

# databases
serve "$tmp/none/x.db" --db="$tmp/none/x.db"
serve "$tmp" --db="$tmp"
serve "--db" --db=
echo "this is a letter and not a database at all, however long one looks at it" >"$tmp/letter"
serve "$tmp/letter" --db="$tmp/letter"
sqlite3 "$tmp/other.db" 'CREATE TABLE orders(name TEXT)'
serve "$tmp/other.db" --db="$tmp/other.db"
head -c 100 "$tmp/good.db" >"$tmp/short.db"
serve "$tmp/short.db" --db="$tmp/short.db"
cp "$tmp/good.db" "$tmp/bad.db" # the schema's page and some others are noise, the head is whole
dd if=/dev/urandom of="$tmp/bad.db" bs=1 seek=100 count=30000 conv=notrunc 2>/dev/null
serve "$tmp/bad.db" --db="$tmp/bad.db"
mkfifo "$tmp/fifo"
serve "$tmp/fifo" --db="$tmp/fifo"
if [ "$(id -u)" -ne 0 ]; then # root writes everywhere
    mkdir "$tmp/locked"
    chmod 500 "$tmp/locked"
    serve "$tmp/locked/x.db" --db="$tmp/locked/x.db"
    cp "$tmp/good.db" "$tmp/readonly.db"
    chmod 400 "$tmp/readonly.db"
    serve "$tmp/readonly.db" --db="$tmp/readonly.db"
fi
[ ! -d /proc/self ] || serve "/proc/self/x.db" --db=/proc/self/x.db

# the good one still opens: nothing above has hurt it
"$fen" serve orders --fill-only --db="$tmp/good.db" || fail "the good database no longer opens"
[ $bad -eq 0 ] && echo "all as expected"
exit $bad
