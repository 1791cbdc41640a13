#!/bin/sh
# whole_test.sh - sys takes no part in link-time optimisation: a function that reads errno must not
# be inlined into one that parks.
. "$FEN_SOURCE_DIR/test/lib.sh"
need readelf

objects="$FEN_BUILD_DIR/CMakeFiles/fen_rooms.dir/src"
[ -f "$FEN_BUILD_DIR/fen_whole.o" ] || {
    echo "skipped: this build is not FEN_WHOLE"
    exit 77
}
for o in "$objects"/sys/*.o; do
    ! readelf -SW "$o" | grep -q '\.gnu\.lto_' || fail "$o could be inlined elsewhere"
done
readelf -SW "$objects/sched/park.c.o" | grep -q '\.gnu\.lto_' || fail "park.c has no LTO at all"
