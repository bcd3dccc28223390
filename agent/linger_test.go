package agent

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestAwaitCoordinators is about how long an ended job waits, by a clock of its
// own. Each case is what happens, and after how long it gives up.
func TestAwaitCoordinators(t *testing.T) {
	const linger = 10 * time.Minute
	acks := func(a *agent, every time.Duration, n int) {
		for range n {
			time.Sleep(every)
			a.acks.Add(1)
		}
	}
	tests := []struct {
		name    string
		retries bool
		failed  bool
		linger  time.Duration
		copied  bool // and that is enough
		happens func(a *agent, deleted func())
		want    time.Duration
		done    bool
	}{
		{"nobody", false, true, linger, false, func(*agent, func()) {}, linger, false},
		{"nobody, another attempt to follow", true, true, linger, false, func(*agent, func()) {}, retryLinger, false},
		{"nobody, another attempt to follow, impatient", true, true, time.Second, false, func(*agent, func()) {}, time.Second, false},
		{"nobody, no other attempt needed", true, false, linger, false, func(*agent, func()) {}, linger, false},
		{"all stored", false, true, linger, false, func(a *agent, _ func()) {
			a.update(func() { a.attached = 1 })
			time.Sleep(time.Minute)
			a.update(func() { a.stored = true })
			time.Sleep(time.Second)
			a.update(func() { a.attached = 0 })
		}, time.Minute + time.Second, true},
		{"all stored, another is stuck", false, true, linger, false, func(a *agent, _ func()) {
			a.update(func() { a.attached = 2 })
			time.Sleep(2 * linger)
			a.update(func() { a.stored, a.storedAt, a.attached = true, time.Now(), 1 })
		}, 3 * linger, true},
		{"steady for twice the linger", false, true, linger, false, func(a *agent, _ func()) {
			a.update(func() { a.attached = 1 })
			acks(a, time.Minute, 20)
			a.update(func() { a.stored, a.attached = true, 0 })
		}, 2 * linger, true},
		{"steady, then stuck", false, true, linger, false, func(a *agent, _ func()) {
			a.update(func() { a.attached = 1 })
			acks(a, time.Minute, 5)
		}, 2 * stalledLinger, false},
		{"stuck, then cut off", false, true, linger, false, func(a *agent, _ func()) {
			a.update(func() { a.attached = 1 })
			time.Sleep(linger + time.Minute)
			a.update(func() { a.attached = 0 })
		}, 2*linger + time.Minute, false},
		{"steady, another attempt to follow", true, true, linger, false, func(a *agent, _ func()) {
			a.update(func() { a.attached = 1 })
			acks(a, time.Second, 95)
		}, 110 * time.Second, false}, // no ack between 100 s and 110 s
		{"deleted, nobody there", false, true, linger, false, func(a *agent, deleted func()) {
			time.Sleep(time.Minute)
			deleted()
		}, time.Minute, false},
		{"deleted, stuck", false, true, linger, false, func(a *agent, deleted func()) {
			a.update(func() { a.attached = 1 })
			time.Sleep(time.Minute)
			deleted()
		}, time.Minute + retryLinger, false},
		{"deleted, in time", false, true, linger, false, func(a *agent, deleted func()) {
			a.update(func() { a.attached = 1 })
			deleted()
			time.Sleep(time.Second)
			a.update(func() { a.stored, a.attached = true, 0 })
		}, time.Second, true},
		{"deleted, it goes without having stored", false, true, linger, false, func(a *agent, deleted func()) {
			a.update(func() { a.attached = 1 })
			deleted()
			time.Sleep(time.Second)
			a.update(func() { a.attached = 0 })
		}, time.Second, false},
		{"copied, nobody", false, true, linger, true, func(*agent, func()) {}, 0, false},
		{"copied, another attempt to follow", true, true, linger, true, func(*agent, func()) {}, 0, false},
		{"copied, one has left before", false, false, linger, true, func(a *agent, _ func()) {
			a.update(func() { a.left = time.Now().Add(-10 * time.Second) })
		}, returnLinger - 10*time.Second, false},
		{"copied, one is there", false, false, linger, true, func(a *agent, _ func()) {
			a.update(func() { a.attached = 1 })
			time.Sleep(time.Minute)
			a.update(func() { a.stored, a.attached = true, 0 })
		}, time.Minute, true},
		{"copied, one is there and is cut off", false, false, linger, true, func(a *agent, _ func()) {
			a.update(func() { a.attached = 1 })
			time.Sleep(time.Minute)
			a.update(func() { a.attached, a.left = 0, time.Now() })
		}, time.Minute + returnLinger, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := lonely(t)
				a.Linger, a.Retries, a.EndCopied, a.copied = tt.linger, tt.retries, tt.copied, tt.copied
				if tt.copied {
					a.left = time.Time{}
				}
				a.changed = make(chan struct{})
				ctx, deleted := context.WithCancel(t.Context())
				defer deleted()
				begin := time.Now()
				var happens sync.WaitGroup
				happens.Go(func() { tt.happens(a, deleted) })
				synctest.Wait()
				done := a.awaitCoordinators(ctx, tt.failed, func() bool { return a.stored && a.attached == 0 })
				if waited := time.Since(begin); done != tt.done || waited != tt.want {
					t.Errorf("%t after %s, want %t after %s", done, waited, tt.done, tt.want)
				}
				happens.Wait()
			})
		})
	}
}

// TestEnter checks that an agent takes so many coordinators and no more, and again
// one when one has gone.
func TestEnter(t *testing.T) {
	a := lonely(t)
	for range maxAttachments {
		if !(&attachment{agent: a}).enter() {
			t.Fatalf("refused with %d attached", a.attached)
		}
	}
	if (&attachment{agent: a}).enter() {
		t.Errorf("%d are attached", a.attached)
	}
	a.update(func() { a.attached-- })
	if !(&attachment{agent: a}).enter() {
		t.Error("refused though one has gone")
	}
}
