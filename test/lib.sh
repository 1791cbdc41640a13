# lib.sh - what the tests in shell share. Sourced first: . "$FEN_SOURCE_DIR/test/lib.sh"
# ctest sets FEN_SOURCE_DIR, FEN_BUILD_DIR, FEN_PROGRAM (the program fen) and FEN_SANITIZE.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

fail() { echo "failed: $*"; exit 1; }

# need PROGRAM...: skips the test when one is not installed.
need() {
    for p in "$@"; do
        command -v "$p" >/dev/null 2>&1 || { echo "skipped: $p not installed"; exit 77; }
    done
}

# skip WHY: for a test that has no meaning in this build.
skip() { echo "skipped: $*"; exit 77; }
