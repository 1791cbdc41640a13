package main

import (
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// The scenarios of cmd/fen/bench/hogs.c: a goroutine that works 0.2 ms every 5 ms, beside others
// that do not let go. See there for what is measured.
const (
	warmUp   = 1000 * time.Millisecond
	window   = 1500 * time.Millisecond
	settle   = 400 * time.Millisecond
	tickGap  = 5 * time.Millisecond
	chunkNs  = 20000
	goodOnes = 4
)

var (
	stop      atomic.Bool
	recording atomic.Int32 // the window that is open, from 1; 0: none
	late      [3][]float64 // ms
	lateMu    sync.Mutex
	dueNs     atomic.Int64 // of the tick that is next or under way, from base
	base      = time.Now()
	goodCPU   atomic.Int64
	callsDone atomic.Int64
	startGood = make(chan struct{})
	loops     int // of one chunk
	sink      atomic.Uint64
)

func threadCPU() int64 {
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, 3, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

func chunk() {
	x := uint64(1)
	for i := 0; i < loops; i++ {
		x = x*6364136223846793005 + 1442695040888963407
	}
	if x == 0 {
		sink.Add(x)
	}
}

// calibrate makes a chunk chunkNs long: the fastest of many.
func calibrate() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	loops = 20000
	best := int64(1 << 62)
	for i := 0; i < 200; i++ {
		from := threadCPU()
		chunk()
		best = min(best, threadCPU()-from)
	}
	loops = int(int64(loops) * chunkNs / best)
}

func record(w int32, lateBy time.Duration) {
	lateMu.Lock()
	late[w] = append(late[w], float64(lateBy.Nanoseconds())/1e6)
	lateMu.Unlock()
}

func ticker(done chan struct{}) {
	for due := time.Now().Add(tickGap); !stop.Load(); due = due.Add(tickGap) {
		dueNs.Store(int64(due.Sub(base)))
		time.Sleep(time.Until(due))
		if w := recording.Load(); w > 0 {
			record(w, time.Since(due))
		}
		for i := 0; i < 10; i++ {
			chunk()
		}
	}
	close(done)
}

// good always has work: 100 us of it, then a yield. Its CPU is added up chunk by chunk; a chunk
// during which the thread changed or ran something else counts as its nominal time.
func good() {
	<-startGood
	for !stop.Load() {
		spent := int64(0)
		for i := 0; i < 5; i++ {
			tid, _, _ := syscall.RawSyscall(syscall.SYS_GETTID, 0, 0, 0)
			from := threadCPU()
			chunk()
			used := threadCPU() - from
			again, _, _ := syscall.RawSyscall(syscall.SYS_GETTID, 0, 0, 0)
			if again != tid || used > 3*chunkNs {
				used = chunkNs
			}
			spent += used
		}
		if recording.Load() == 2 {
			goodCPU.Add(spent)
		}
		runtime.Gosched()
	}
}

func loop() {
	for x := uint64(0); !stop.Load(); x++ {
	}
}

func yielder() {
	for !stop.Load() {
		end := time.Now().Add(15 * time.Millisecond)
		for time.Now().Before(end) && !stop.Load() {
			chunk()
		}
		runtime.Gosched()
	}
}

func caller() {
	for !stop.Load() {
		t := syscall.Timespec{Nsec: 100000000}
		syscall.Nanosleep(&t, nil)
		if recording.Load() == 1 {
			callsDone.Add(1)
		}
		runtime.Gosched()
	}
}

func p99(v []float64) float64 {
	sort.Float64s(v)
	if len(v) == 0 {
		return 0 // the window was not used
	}
	return v[len(v)*99/100]
}

// open records window w for a while: a sleep of the thread, since time.Sleep might come late. The way
// back from it may be late too, so the time is taken. Returns seconds.
func open(w int32, d time.Duration) float64 {
	from := time.Now()
	recording.Store(w)
	t := syscall.NsecToTimespec(d.Nanoseconds())
	syscall.Nanosleep(&t, nil)
	recording.Store(0)
	now := time.Now()
	for due := base.Add(time.Duration(dueNs.Load())); w > 0 && due.Before(now); due = due.Add(tickGap) {
		record(w, now.Sub(due)) // overdue when the window closes
	}
	return now.Sub(from).Seconds()
}

// beside runs n of others and the ticker; then, with withGood, the good ones too. P99 in ms without
// and with these, their share of the machine in percent, calls a second.
func beside(n int, other func(), withGood bool) []float64 {
	calibrate()
	done := make(chan struct{})
	for i := 0; i < n; i++ {
		go other()
	}
	for i := 0; i < goodOnes; i++ {
		go good()
	}
	go ticker(done)
	open(0, warmUp)
	calls := open(1, window)
	share := 0.0
	if withGood {
		close(startGood)
		open(0, settle)
		wall := open(2, window)
		share = float64(goodCPU.Load()) / 1e9 / wall / float64(runtime.GOMAXPROCS(0)) * 100
	}
	stop.Store(true)
	if !withGood {
		close(startGood)
	}
	<-done
	return []float64{p99(late[1]), p99(late[2]), share, float64(callsDone.Load()) / calls}
}

func besideLoops(n int) []float64 { return beside(n, loop, true) }
func besideYielders() []float64   { return beside(4, yielder, false) }
func besideCalls() []float64      { return beside(64, caller, false) }
