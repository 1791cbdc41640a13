#!/bin/sh
# check_selftest.sh - breaks each kind of rule in a copy of the tree and asserts that the check that
# guards it fails and names the file. A check that cannot fail is a defect.
# Needs the objects of build/release. Run by ./dev check.
set -eu
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
trap 'exit 1' INT TERM
n=0

# The files that git knows or would add, and the objects, with a repository around them.
git ls-files --cached --others --exclude-standard | while read -r f; do
    [ -f "$f" ] && printf '%s\n' "$f"
done | tar -cf - -T - | tar -xf - -C "$copy"
mkdir -p "$copy/build/release/CMakeFiles"
for d in fen_rooms fen_cmd fen_program; do
    cp -R "build/release/CMakeFiles/$d.dir" "$copy/build/release/CMakeFiles/"
done
cd "$copy"
git init -q .

fail() { echo "selftest: $*"; exit 1; }

# passes COMMAND: what is not broken must pass, or the tests below would prove nothing.
passes() {
    "$@" >out.txt 2>&1 || fail "fails on the unbroken tree: $*"
    rm -f out.txt
}

# caught FILE COMMAND...: the command must fail and name FILE. Restores FILE afterwards.
caught() {
    file=$1
    shift
    if "$@" >out.txt 2>&1; then fail "rule $((n + 1)) missed in $file: $*"; fi
    grep -q "$file" out.txt || { cat out.txt; fail "did not name $file: $*"; }
    rm -f out.txt
    if [ -f saved ]; then mv saved "$file"; else rm -f "$file"; fi
    n=$((n + 1))
}
save() { cp "$1" saved; }
# compile FILE [TARGET]: its object into the copied build.
compile() {
    gcc -std=gnu17 -fvisibility=hidden -D_GNU_SOURCE -Iinclude -Isrc -Icmd/fen -c "$1" \
        -o "build/release/CMakeFiles/${2:-fen_rooms}.dir/$1.o"
}

layers="python3 tools/layers.py"
names="python3 tools/names.py build/release"
tidy="python3 tools/tidy.py"
passes $layers build/release
passes $names
passes $tidy src/base/err.c include/fen/err.h

# A layer, by include.
save src/base/err.c
echo '#include "sys/sys.h"' >>src/base/err.c
caught src/base/err.c $layers
# A layer, by an extern that no header admits.
echo '/* smuggled.c - calls upward without an include. */
void *fen__mem_alloc(unsigned long n);
void *fen__sys_smuggled(void);
void *fen__sys_smuggled(void) { return fen__mem_alloc(1); }' >src/sys/smuggled.c
compile src/sys/smuggled.c
caught src/sys/smuggled.c $layers build/release
rm -f build/release/CMakeFiles/fen_rooms.dir/src/sys/smuggled.c.o
# A program that reaches into the library.
save cmd/fen/main.c
echo '#include "base/base.h"' >>cmd/fen/main.c
caught cmd/fen/main.c $layers
save cmd/fen/main.c
echo 'void fen__panic(const char *, const char *, int); void end(void);
void end(void) { fen__panic("end", "", 0); }' >>cmd/fen/main.c
compile cmd/fen/main.c fen_program
caught cmd/fen/main.c $layers build/release
compile cmd/fen/main.c fen_program
# A name.
echo '/* badname.c - shares a symbol under a bare name. */
int helper(void);
int helper(void) { return 1; }' >src/base/badname.c
compile src/base/badname.c
caught src/base/badname.c $names
# The same symbol in two files.
echo '/* badname.c - defines what err.c defines. */
#include <fen/err.h>
const char *fen_strerror(int rc) { return rc ? "" : NULL; }' >src/base/badname.c
compile src/base/badname.c
caught src/base/badname.c $names
# A public function without a declaration.
echo '/* badname.c - exports what no header has. */
#include <fen/types.h>
FEN_API int fen_secret(void);
int fen_secret(void) { return 1; }' >src/base/badname.c
compile src/base/badname.c
caught src/base/badname.c $names
rm -f build/release/CMakeFiles/fen_rooms.dir/src/base/badname.c.o
# The length of a line, of a function, of a file.
save src/base/err.c
printf '/* %0110d */\n' 0 >>src/base/err.c
caught src/base/err.c $tidy src/base/err.c
save src/base/err.c
{ printf 'static int long_one(void)\n{\n'; seq -f '    (void)%g;' 71; printf '    return 0;\n}\n'
} >>src/base/err.c
caught src/base/err.c $tidy src/base/err.c
save src/base/err.c
seq -f '/* %g */' 800 >>src/base/err.c
caught src/base/err.c $tidy src/base/err.c
# A call that belongs to room sys; a thread-local; a public function without a comment.
save src/base/err.c
echo 'static int peek(int fd, char *p) { return (int)read(fd, p, 1); }' >>src/base/err.c
caught src/base/err.c $tidy src/base/err.c
save src/base/err.c
echo 'static _Thread_local int mine;' >>src/base/err.c
caught src/base/err.c $tidy src/base/err.c
save include/fen/err.h
printf '\nFEN_API int fen_undocumented(void);\n' >>include/fen/err.h
caught include/fen/err.h $tidy include/fen/err.h
# The format.
if command -v clang-format >/dev/null 2>&1; then
    passes clang-format --dry-run --Werror src/base/err.c
    save src/base/err.c
    echo 'static int  wide( int a ){return a;}' >>src/base/err.c
    caught src/base/err.c clang-format --dry-run --Werror src/base/err.c
fi
# A public function without a text, and a page that is not what the headers say.
reference="python3 tools/reference.py --check build/release"
passes $reference
save include/fen/types.h
sed -i '/^\/\* Monotonic time/d' include/fen/types.h
caught include/fen/types.h $reference
save docs/reference/types.md
echo more >>docs/reference/types.md
caught docs/reference/types.md $reference
# A public function that no fault test calls, and a row without a function.
faults="python3 tools/faults.py"
passes $faults
save include/fen/err.h
printf '\n/* Any thread. */\nFEN_API int fen_untested(void);\n' >>include/fen/err.h
caught include/fen/err.h $faults
save test/every.h
sed -i 's/ROW(fen_strerror,/ROW(fen_gone,/' test/every.h
caught test/every.h $faults
echo "$n broken rules, each caught"
