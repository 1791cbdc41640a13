#!/bin/sh
# Builds go-orders and go-micro into build/rivals. Exit status 77: no Go here, nothing to compare.
set -eu
cd "$(dirname "$0")"
out=$(cd ../../.. && pwd)/build/rivals
if ! command -v go >/dev/null 2>&1; then
    echo "skipped: go not installed"
    exit 77
fi
mkdir -p "$out"
export CGO_ENABLED=1
export CGO_CFLAGS="-O2 -DSQLITE_DEFAULT_MMAP_SIZE=268435456 -DSQLITE_DEFAULT_MEMSTATUS=0"
go build -o "$out/go-micro" ./micro # first: it needs no module and no C compiler
go build -o "$out/go-orders" .
