package main

import (
	"context"
	"sync"
	"syscall"
	"time"
)

const messages = 300000

func message(capacity int) float64 {
	c := make(chan int, capacity)
	start := time.Now()
	go func() {
		for i := 0; i < messages; i++ {
			c <- i
		}
		close(c)
	}()
	sum := 0
	for v := range c {
		sum += v
	}
	if sum != messages*(messages-1)/2 {
		panic("wrong sum")
	}
	return per(messages, start)
}

func unbufferedRound() float64 { return message(0) }
func bufferedRound() float64   { return message(128) }

func tripRound() float64 {
	const n = 150000
	there, back := make(chan int), make(chan int)
	go func() {
		for v := range there {
			back <- v
		}
	}()
	start := time.Now()
	for i := 0; i < n; i++ {
		there <- i
		if <-back != i {
			panic("wrong echo")
		}
	}
	ns := per(n, start)
	close(there)
	return ns
}

// One goroutine sends on two channels in turn, the other selects.
func waitingRound() float64 {
	a, b := make(chan int), make(chan int)
	go func() {
		for i := 0; i < messages; i++ {
			if i%2 == 0 {
				a <- i
			} else {
				b <- i
			}
		}
	}()
	sum := 0
	start := time.Now()
	for i := 0; i < messages; i++ {
		select {
		case v := <-a:
			sum += v
		case v := <-b:
			sum += v
		}
	}
	if sum != messages*(messages-1)/2 {
		panic("wrong sum")
	}
	return per(messages, start)
}

// A send to a buffered channel, then a select of two of which that one is ready: no switch.
func readyRound() float64 {
	a, quit := make(chan int, 1), make(chan struct{})
	start := time.Now()
	for i := 0; i < messages; i++ {
		a <- i
		select {
		case v := <-a:
			if v != i {
				panic("wrong value")
			}
		case <-quit:
			panic("not closed")
		}
	}
	return per(messages, start)
}

const timers = 200000

func timerRound() float64 {
	start := time.Now()
	for i := 0; i < timers; i++ {
		time.AfterFunc(time.Hour, func() {}).Stop()
	}
	return per(timers, start)
}

func timerReusedRound() float64 {
	t := time.AfterFunc(time.Hour, func() {})
	start := time.Now()
	for i := 0; i < timers; i++ {
		t.Reset(time.Hour)
		t.Stop()
	}
	return per(timers, start)
}

// What a scope with a deadline and a cancel hook is in Go.
func contextRound() float64 {
	start := time.Now()
	for i := 0; i < timers; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		stop := context.AfterFunc(ctx, func() {})
		stop()
		cancel()
	}
	return per(timers, start)
}

const locks = 1000000

var mu sync.Mutex
var count int

func lockRound() float64 {
	count = 0
	start := time.Now()
	for i := 0; i < locks; i++ {
		mu.Lock()
		count++
		mu.Unlock()
	}
	return per(locks, start)
}

func contendedRound() float64 {
	const lockers = 8
	var wg sync.WaitGroup
	count = 0
	start := time.Now()
	for g := 0; g < lockers; g++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; i < locks/4/lockers; i++ {
				mu.Lock()
				count++
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return per(count, start)
}

// What the scheduler adds to a system call so that it may block: Syscall less RawSyscall.
func sectionRound() float64 {
	const n = 300000
	start := time.Now()
	for i := 0; i < n; i++ {
		syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0)
	}
	raw := per(n, start)
	start = time.Now()
	for i := 0; i < n; i++ {
		syscall.Syscall(syscall.SYS_GETPID, 0, 0, 0)
	}
	return per(n, start) - raw
}
