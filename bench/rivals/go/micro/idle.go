package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

func rssBytes() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		panic(err)
	}
	return float64(pages * int64(os.Getpagesize()))
}

var hold = make(chan struct{})

// parkAll starts n goroutines that wait on a channel, and returns when all of them do.
func parkAll(n int) {
	var ready sync.WaitGroup
	ready.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			ready.Done()
			<-hold
		}()
	}
	ready.Wait()
	time.Sleep(20 * time.Millisecond)
}

// Resident bytes of each of n idle goroutines after a while, how many there are, maps.
func idle(n int, after time.Duration) []float64 {
	before := rssBytes()
	parkAll(n)
	time.Sleep(after)
	each := (rssBytes() - before) / float64(n)
	live := float64(runtime.NumGoroutine() - 1)
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	return []float64{each, live, float64(bytes.Count(maps, []byte("\n")))}
}

// 100,000 parked goroutines, no timer; whoever started this counts the wake-ups, then ends it.
func quiet() []float64 {
	parkAll(100000)
	fmt.Println("ready")
	<-hold
	return nil
}
