// micro measures what `fen bench` measures, in Go: go-micro SCENARIO PROCS.
//
// One run is one side of one pair. It prints one JSON object whose values stand in the order in
// which the fen side gives them: for a scenario of rounds, the median of the later rounds and then
// the first round, of each loop. PROCS is GOMAXPROCS; 0 leaves it as it is.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"time"
)

const laterRounds = 3

// rounds runs each loop, which returns nanoseconds an operation, once and then laterRounds times.
func rounds(loops ...func() float64) func() []float64 {
	return func() []float64 {
		var out []float64
		for _, loop := range loops {
			first := loop()
			var later [laterRounds]float64
			for i := range later {
				later[i] = loop()
			}
			sort.Float64s(later[:])
			out = append(out, later[laterRounds/2], first)
		}
		return out
	}
}

func per(n int, start time.Time) float64 {
	return float64(time.Since(start).Nanoseconds()) / float64(n)
}

var scenarios = map[string]func() []float64{
	"yield":       rounds(yieldRound),
	"spawn":       rounds(singleRound, batchRound),
	"spawn_batch": rounds(batchRound),
	"skynet":      skynet,
	"channel":     rounds(unbufferedRound, tripRound, bufferedRound),
	"select":      rounds(waitingRound, readyRound),
	"timer":       rounds(timerRound, timerReusedRound, timerRound, contextRound),
	"mutex":       rounds(lockRound),
	"mutex_8":     rounds(contendedRound),
	"blocking":    rounds(sectionRound),
	"defer":       rounds(deferBlockRound, deferLoopRound),
	"pool":        rounds(poolRound),
	"idle":        func() []float64 { return idle(100000, 0) },
	"idle_later":  func() []float64 { return idle(100000, 1600*time.Millisecond) },
	"million":     func() []float64 { return idle(1000000, 0) },
	"quiet":       quiet,
	"hogs_2":      func() []float64 { return besideLoops(2) },
	"hogs_16":     func() []float64 { return besideLoops(16) },
	"hogs_64":     func() []float64 { return besideLoops(64) },
	"yielders":    besideYielders,
	"calls":       besideCalls,
}

func main() {
	if len(os.Args) != 3 || scenarios[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go-micro SCENARIO PROCS")
		os.Exit(2)
	}
	procs, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "micro:", err)
		os.Exit(2)
	}
	runtime.GOMAXPROCS(procs)
	values := scenarios[os.Args[1]]()
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"go":       runtime.Version(),
		"procs":    runtime.GOMAXPROCS(0),
		"scenario": os.Args[1],
		"values":   values,
	})
}
