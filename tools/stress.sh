#!/bin/sh
# stress.sh - repeats the tests of the release and tsan builds until one fails or the time is over.
# FEN_STRESS_SECONDS (600) is shared by the two. Before that, thousands of seeds of the simulated runs
# (docs/simulation.md). Built by ./dev stress before.
set -eu
cd "$(dirname "$0")/.."
total=${FEN_STRESS_SECONDS:-600}
case "$total" in
*[!0-9]* | "") echo "stress: FEN_STRESS_SECONDS must be a whole number" >&2 && exit 2 ;;
esac
jobs=$(nproc 2>/dev/null || echo 2)
rounds=0

# stress PRESET SECONDS: rounds of --repeat until-fail:5, as many as start before the time is over.
stress() {
    still=""
    if [ "$1" = tsan ] && setarch -R true 2>/dev/null; then still="setarch -R"; fi
    end=$(($(date +%s) + $2))
    while :; do
        # shellcheck disable=SC2086
        $still ctest --test-dir "build/$1" --output-on-failure --no-tests=error -j "$jobs" \
            --repeat until-fail:5 --schedule-random --quiet --output-log "build/$1/stress.log" || {
            tail -n 100 "build/$1/stress.log"
            echo "stress: $1 failed in round $((rounds + 1)); all of it: build/$1/stress.log"
            exit 1
        }
        rounds=$((rounds + 1))
        [ "$(date +%s)" -lt "$end" ] || break
    done
}

# simulate PRESET SEEDS: simulated runs over other seeds each time; a seed that fails is printed.
simulate() {
    FEN_SIM_FROM=$(date +%s) FEN_SIM_SEEDS=$2 "build/$1/test_sim_test" >"build/$1/simulate.log" 2>&1 || {
        cat "build/$1/simulate.log"
        echo "stress: $1: FEN_SIM_SEED=N build/$1/test_sim_test repeats the run"
        exit 1
    }
}

simulate release 5000
simulate tsan 500
stress release $((total / 2))
stress tsan $((total - total / 2))
echo "stress: ok, $rounds rounds of 5 in $total s"
