#!/bin/sh
# stress.sh [short] - first thousands of seeds of the simulated runs (docs/simulation.md) and a
# long run of the heap's books (src/mem/ledger_test.c: accounts, overlaps, alignment), then the soak
# (test/soak.c: everything at once, with bounds) in release and in tsan; then the tests of both,
# again and again. FEN_STRESS_SECONDS (600) is how long the soak of the release build lasts, the one
# of tsan half of it, each run of the books and each series of tests a quarter: half an hour in all.
# short: 20 s, a tenth of the seeds and no series. Built by ./dev stress before.
set -eu
cd "$(dirname "$0")/.."
total=${FEN_STRESS_SECONDS:-600}
seeds=5000
sim_from=$(date +%s)
if [ "${1:-}" = short ]; then
    sim_from=1000
    total=${FEN_STRESS_SECONDS:-20}
    seeds=500
fi
case "$total" in
*[!0-9]* | "" | 0) echo "stress: FEN_STRESS_SECONDS must be a whole number above 0" >&2 && exit 2 ;;
esac
jobs=$(nproc 2>/dev/null || echo 2)
rounds=0

# still PRESET: TSan wants a low mmap entropy.
still() {
    if [ "$1" = tsan ] && setarch -R true 2>/dev/null; then echo "setarch -R"; fi
}

soak() {
    echo "stress: soak of $1, $2 s"
    # shellcheck disable=SC2046
    TSAN_OPTIONS=halt_on_error=1 $(still "$1") "build/$1/fen_soak" "$2" || {
        echo "stress: the soak of $1 failed"
        exit 1
    }
}

# repeat PRESET SECONDS: the tests in other orders, as often as a round begins before the time is
# over.
repeat() {
    end=$(($(date +%s) + $2))
    while :; do
        # shellcheck disable=SC2046
        $(still "$1") ctest --test-dir "build/$1" --output-on-failure --no-tests=error -j "$jobs" \
            --schedule-random --quiet --output-log "build/$1/stress.log" || {
            tail -n 100 "build/$1/stress.log"
            echo "stress: $1 failed in round $((rounds + 1)); all of it: build/$1/stress.log"
            exit 1
        }
        rounds=$((rounds + 1))
        [ "$(date +%s)" -lt "$end" ] || break
    done
}

# simulate PRESET SEEDS: simulated runs over other seeds each time; short: over the same ones, so
# that CI says the same of the same tree. A seed that fails is printed.
simulate() {
    FEN_SIM_FROM=$sim_from FEN_SIM_SEEDS=$2 "build/$1/test_sim_test" \
        >"build/$1/simulate.log" 2>&1 || {
        cat "build/$1/simulate.log"
        echo "stress: $1: FEN_SIM_SEED=N build/$1/test_sim_test repeats the run"
        exit 1
    }
}

# books PRESET SECONDS: the sum over all accounts is what live blocks hold, at each stop.
books() {
    # shellcheck disable=SC2046
    TSAN_OPTIONS=halt_on_error=1 FEN_LEDGER_SECONDS=$2 $(still "$1") "build/$1/mem_ledger_test" \
        >"build/$1/books.log" 2>&1 || {
        cat "build/$1/books.log"
        echo "stress: $1: the books of the heap do not add up"
        exit 1
    }
}

simulate release $seeds
simulate tsan $((seeds / 10))
part=$(((total + 3) / 4))
books release "$part"
books tsan "$part"
soak release "$total"
soak tsan "$(((total + 1) / 2))"
if [ "${1:-}" = short ]; then
    echo "stress: ok, soak of $total s, $seeds seeds"
    exit 0
fi
repeat release "$part"
repeat tsan "$part"
echo "stress: ok, soak of $total s, $seeds seeds, $rounds rounds of the tests"
