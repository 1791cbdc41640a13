#!/bin/sh
# demo.sh - the short proof: the orders service on fen and on three baselines, the same load on
# each, and what every run cost. Raw samples go to pack/. Started by ./dev demo, which builds first.
set -eu
cd "$(dirname "$0")/.."
exec build/release/fen prove --service=orders --baseline=pool200,pool2000,pthread --load=c100,4s \
    --out=pack/ "$@"
