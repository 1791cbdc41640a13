package main

import (
	"sync"
	"time"
)

var deferred int

//go:noinline
func bump(n *int) { *n++ }

//go:noinline
func byHand(n *int) int {
	v := *n
	bump(n)
	return v
}

//go:noinline
func byDefer(n *int) int {
	defer bump(n)
	return *n
}

// What an open-coded defer costs beyond the same call by hand.
func deferBlockRound() float64 {
	const n = 10000000
	start := time.Now()
	for i := 0; i < n; i++ {
		byHand(&deferred)
	}
	hand := per(n, start)
	start = time.Now()
	for i := 0; i < n; i++ {
		byDefer(&deferred)
	}
	return max(per(n, start)-hand, 0)
}

//go:noinline
func manyDefers(n int) {
	for i := 0; i < n; i++ {
		defer bump(&deferred)
	}
}

// A defer in a loop: a record each.
func deferLoopRound() float64 {
	const n = 1000000
	start := time.Now()
	for i := 0; i < n/1000; i++ {
		manyDefers(1000)
	}
	return per(n, start)
}

type pooled struct {
	tag  uint64
	uses uint64
	data [240]byte
}

var objects = sync.Pool{New: func() any { return &pooled{tag: 1} }}

func poolRound() float64 {
	const n = 5000000
	start := time.Now()
	for i := 0; i < n; i++ {
		p := objects.Get().(*pooled)
		p.uses++
		objects.Put(p)
	}
	return per(n, start)
}
