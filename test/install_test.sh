#!/bin/sh
# install_test.sh - what `cmake --install` puts down is enough to build against, both ways.
. "$FEN_SOURCE_DIR/test/lib.sh"
need cmake pkg-config ninja

cmake --install "$FEN_BUILD_DIR" --prefix "$tmp/root" >"$tmp/log" || fail "$(cat "$tmp/log")"
cat >"$tmp/user.c" <<'C'
#include <fen/arena.h>
#include <fen/err.h>
#include <string.h>
int main(void)
{
    fen_arena *a = fen_arena_new();
    char *p = a ? fen_arena_dup(a, "fen", 3) : NULL;
    int bad = !p || strcmp(p, "fen") || strcmp(fen_strerror(FEN_ECLOSED), "closed");
    fen_arena_free(a);
    return bad;
}
C

# By pkg-config, wherever the tree was moved to.
mv "$tmp/root" "$tmp/moved"
pc=$(dirname "$(find "$tmp/moved" -name fen.pc)")
flags=$(PKG_CONFIG_PATH="$pc" pkg-config --cflags fen)
libs=$(PKG_CONFIG_PATH="$pc" pkg-config --libs fen)
# shellcheck disable=SC2086
cc -std=gnu17 -Wall -Wextra -Werror $flags -o "$tmp/by_pc" "$tmp/user.c" $libs ||
    fail "pkg-config: does not build"
"$tmp/by_pc" || fail "pkg-config: runs wrong"

# By find_package.
cat >"$tmp/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES C)
find_package(fen 0.1 REQUIRED)
add_executable(by_cmake user.c)
target_link_libraries(by_cmake PRIVATE fen::fen)
if(TARGET fen::fen_malloc) # not of a build with sanitizers
    add_executable(one_heap one_heap.c)
    target_link_libraries(one_heap PRIVATE fen::fen_malloc fen::fen)
endif()
C
cat >"$tmp/one_heap.c" <<'C'
#include <fen/mem.h>
#include <stdlib.h>
int main(void)
{
    void *p = malloc(100);
    int bad = !p || fen_usable_size(p) < 100;
    fen_free(p);
    return bad;
}
C
cmake -G Ninja -S "$tmp" -B "$tmp/b" -DCMAKE_PREFIX_PATH="$tmp/moved" >"$tmp/log" 2>&1 &&
    cmake --build "$tmp/b" >>"$tmp/log" 2>&1 || fail "find_package: $(cat "$tmp/log")"
"$tmp/b/by_cmake" || fail "find_package: runs wrong"
[ ! -x "$tmp/b/one_heap" ] || "$tmp/b/one_heap" || fail "find_package: malloc is not fen's"
script=$(PKG_CONFIG_PATH="$pc" pkg-config --variable=gdb_script fen)
[ -f "$script" ] || fail "the script for gdb is not installed: '$script'"
[ -x "$tmp/moved/bin/fen" ] || fail "the program is not installed"
echo "ok"
