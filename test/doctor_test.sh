#!/bin/sh
# doctor_test.sh - fen doctor on made-up machines: each advice comes when it should and only then,
# and nothing is written.
. "$FEN_SOURCE_DIR/test/lib.sh"
export FEN_MEMLIMIT=off
root=$tmp/root
put() { mkdir -p "$(dirname "$root$1")" && printf '%s\n' "$2" >"$root$1"; }
node=/sys/devices/system/node
put /proc/sys/vm/zone_reclaim_mode 0
put /proc/sys/kernel/numa_balancing 0
put $node/node0/numastat "numa_hit 9
local_node 9900
other_node 100"
put $node/node1/numastat "local_node 9900
other_node 100"
put /sys/kernel/mm/transparent_hugepage/enabled 'always [madvise] never'
put /proc/sys/vm/overcommit_memory 0
put /proc/sys/vm/max_map_count 1048576
put /proc/sys/kernel/osrelease 6.12.9-1-amd64
put /proc/sys/net/core/somaxconn 4096

look() { "$FEN_PROGRAM" doctor --root="$root" >"$tmp/out" || fail "exit $?"; }
# advised NAME: there is an advice about NAME.   silent NAME: there is none.
advised() { grep -q "^advice  *$1 " "$tmp/out" || fail "no advice about $1: $(cat "$tmp/out")"; }
silent() { grep -q "^ok  *$1 " "$tmp/out" || fail "no ok about $1: $(cat "$tmp/out")"; }

sum() { (cd "$root" && find . -type f -exec md5sum {} + | sort); }
before=$(sum)
look
for name in numa_nodes zone_reclaim_mode numa_balancing numa_other_node transparent_hugepages \
    overcommit_memory max_map_count somaxconn procs; do
    silent $name
done
grep -q '^ok  *numa_nodes  *2$' "$tmp/out" || fail "two nodes: $(cat "$tmp/out")"
grep -q '^ok  *numa_other_node  *1 %$' "$tmp/out" || fail "1 %: $(cat "$tmp/out")"

# worse NAME FILE VALUE: that value brings an advice, and goes again.
worse() {
    was=$(cat "$root$2")
    put "$2" "$3"
    look
    advised "$1"
    [ "$(grep -c ^advice "$tmp/out")" -le $((1 + base)) ] || fail "more than $1: $(cat "$tmp/out")"
    put "$2" "$was"
}
base=$(grep -c ^advice "$tmp/out" || true) # of this machine: descriptors, cgroup
worse zone_reclaim_mode /proc/sys/vm/zone_reclaim_mode 2
worse numa_balancing /proc/sys/kernel/numa_balancing 1
worse numa_other_node $node/node1/numastat "local_node 5000
other_node 5000"
worse transparent_hugepages /sys/kernel/mm/transparent_hugepage/enabled '[always] madvise never'
worse overcommit_memory /proc/sys/vm/overcommit_memory 2
worse max_map_count /proc/sys/vm/max_map_count 65530
worse somaxconn /proc/sys/net/core/somaxconn 128
[ "$(sum)" = "$before" ] || fail "something was written"

"$FEN_PROGRAM" doctor --root="$tmp/nothing" >"$tmp/out" || fail "nothing there: exit $?"
[ "$(grep -c '  -$' "$tmp/out")" -ge 6 ] || fail "what is not there: $(cat "$tmp/out")"
(ulimit -n 1000 && look) || fail "few descriptors"
advised fd_limit
put /proc/sys/vm/max_map_count 65530
put /proc/sys/kernel/osrelease 6.13.0
look
silent max_map_count
"$FEN_PROGRAM" doctor --root="$root" --json | python3 -c '
import json, sys
v = {o["name"]: o for o in json.load(sys.stdin)}
assert v["somaxconn"] == {"name": "somaxconn", "value": "4096", "advice": None}, v
' || fail "--json"
"$FEN_PROGRAM" doctor --rot=x 2>/dev/null && fail "an unknown flag"
exit 0
