package main

import (
	"runtime"
	"sync"
	"time"
)

// Two goroutines that yield to each other: every Gosched is one switch.
func yieldRound() float64 {
	const n = 300000
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
	return per(2*n, start)
}

// One goroutine after the other: spawned, joined.
func singleRound() float64 {
	const n = 200000
	var wg sync.WaitGroup
	start := time.Now()
	for i := 0; i < n; i++ {
		wg.Add(1)
		go wg.Done()
		wg.Wait()
	}
	return per(n, start)
}

// 10,000 goroutines that all live at once: spawn, one Gosched each, join. Milliseconds for all.
func batchRound() float64 {
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
	return float64(time.Since(start).Nanoseconds()) / 1e6
}

func sumBelow(from, leaves int) int {
	const fan = 10
	c := make(chan int)
	for i := 0; i < fan; i++ {
		go grow(c, from+i*(leaves/fan), leaves/fan)
	}
	sum := 0
	for i := 0; i < fan; i++ {
		sum += <-c
	}
	return sum
}

func grow(to chan int, from, leaves int) {
	if leaves == 1 {
		to <- from
	} else {
		to <- sumBelow(from, leaves)
	}
}

// Milliseconds of two rounds.
func skynet() []float64 {
	const leaves = 1000000
	var out []float64
	for i := 0; i < 2; i++ {
		start := time.Now()
		if sumBelow(0, leaves) != leaves*(leaves-1)/2 {
			panic("wrong sum")
		}
		out = append(out, float64(time.Since(start).Nanoseconds())/1e6)
	}
	return out
}
