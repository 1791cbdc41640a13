// micro prints, as one JSON object, what Go's scheduler takes for the mechanisms that `fen bench`
// measures. Each figure is the median of several rounds, in nanoseconds per operation of one
// processor (GOMAXPROCS=1) unless its name says otherwise.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const rounds = 9

func median(v []float64) float64 {
	sort.Float64s(v)
	return v[len(v)/2]
}

func repeat(f func() float64) float64 {
	v := make([]float64, rounds)
	for i := range v {
		v[i] = f()
	}
	return median(v)
}

// Two goroutines that yield to each other: every Gosched is one switch.
func goschedNs() float64 {
	const n = 500000
	var wg sync.WaitGroup
	wg.Add(2)
	start := time.Now()
	for g := 0; g < 2; g++ {
		go func() {
			defer wg.Done()
			for i := 0; i < n; i++ {
				runtime.Gosched()
			}
		}()
	}
	wg.Wait()
	return float64(time.Since(start).Nanoseconds()) / (2 * n)
}

// 10,000 goroutines that all live at once: spawn, one Gosched each, join.
func spawnJoinNs() float64 {
	const n = 10000
	var wg sync.WaitGroup
	wg.Add(n)
	start := time.Now()
	for i := 0; i < n; i++ {
		go func() {
			runtime.Gosched()
			wg.Done()
		}()
	}
	wg.Wait()
	return float64(time.Since(start).Nanoseconds()) / n
}

// One message over an unbuffered channel, sender and receiver on the same processor.
func channelMessageNs() float64 {
	const n = 1000000
	c := make(chan int)
	start := time.Now()
	go func() {
		for i := 0; i < n; i++ {
			c <- i
		}
		close(c)
	}()
	for range c {
	}
	return float64(time.Since(start).Nanoseconds()) / n
}

func rssBytes() (int64, error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm has %d fields", len(fields))
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// Resident memory that 100,000 goroutines blocked on a channel add.
func parkedBytes() (int64, error) {
	const n = 100000
	before, err := rssBytes()
	if err != nil {
		return 0, err
	}
	var ready, done sync.WaitGroup
	ready.Add(n)
	done.Add(n)
	hold := make(chan struct{})
	for i := 0; i < n; i++ {
		go func() {
			ready.Done()
			<-hold
			done.Done()
		}()
	}
	ready.Wait()
	after, err := rssBytes()
	close(hold)
	done.Wait()
	return after - before, err
}

func main() {
	procs := runtime.GOMAXPROCS(1)
	first := spawnJoinNs() // before anything else: no dead goroutine to reuse yet
	later := repeat(spawnJoinNs)
	gosched := repeat(goschedNs)
	message := repeat(channelMessageNs)
	runtime.GOMAXPROCS(procs)
	messageAll := repeat(channelMessageNs)
	runtime.GC()
	parked, err := parkedBytes()
	if err != nil {
		fmt.Fprintln(os.Stderr, "micro:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"go":                              runtime.Version(),
		"procs":                           procs,
		"rounds":                          rounds,
		"gosched_switch_ns":               gosched,
		"spawn_yield_join_first_ns":       first,
		"spawn_yield_join_later_ns":       later,
		"unbuffered_message_ns":           message,
		"unbuffered_message_all_procs_ns": messageAll,
		"parked_100000_rss_bytes":         parked,
		"parked_rss_bytes_per_goroutine":  float64(parked) / 100000,
	})
}
