package cgroup

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestCache(t *testing.T) {
	files := fixture(t, "v2-linux-6.12")
	dir := files.write(t)
	synctest.Test(t, func(t *testing.T) {
		r, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		start := time.Now()
		set := func(n string) {
			if err := os.WriteFile(filepath.Join(dir.Name(), "pids.current"), []byte(n+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		set("1")
		c := NewCache(r, 10*time.Second)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { c.Run(ctx) })
		check := func(what string, pids uint64, age time.Duration) {
			t.Helper()
			s := c.Sample()
			if s.Pids.Current != fig(pids) || !s.Time.Equal(start.Add(age)) {
				t.Errorf("%s: %d tasks, taken after %s, want %d and %s", what, s.Pids.Current.N, s.Time.Sub(start), pids, age)
			}
		}
		check("at first", 1, 0)
		set("2")
		time.Sleep(9 * time.Second)
		synctest.Wait()
		check("within the interval", 1, 0)
		time.Sleep(time.Second)
		synctest.Wait()
		check("after the interval", 2, 10*time.Second)
		kept := c.Sample()
		set("3")
		c.SetInterval(time.Second)
		c.SetInterval(2 * time.Second)
		c.SetInterval(2 * time.Second)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		check("after a shorter interval", 3, 12*time.Second)
		if kept.Pids.Current != fig(2) {
			t.Error("a sample changed after it was given out")
		}
		set("4")
		time.Sleep(time.Second)
		if s := c.Refresh(); s != c.Sample() {
			t.Error("Refresh does not return what it took")
		}
		check("refreshed", 4, 13*time.Second)
		stop()
		running.Wait()

		r.Close()
		c.Refresh()
		check("closed", 4, 13*time.Second)
		c.Run(t.Context()) // ends by itself: nothing more will come
	})
}

func TestCacheOfNothing(t *testing.T) {
	if s := NewCache(nil, time.Second).Sample(); s == nil || *s != (Sample{}) {
		t.Errorf("Sample() = %v, want one that knows nothing", s)
	}
}

func TestCacheAllocates(t *testing.T) {
	r, err := Open(fixture(t, "v2-linux-6.12").write(t))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := NewCache(r, time.Second)
	if n := testing.AllocsPerRun(100, func() { c.Sample() }); n != 0 {
		t.Errorf("a cached sample allocates %g times", n)
	}
}

func TestCacheOfMany(t *testing.T) {
	r, err := Open(fixture(t, "hybrid-linux-6.18").write(t))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := NewCache(r, time.Second)
	var many sync.WaitGroup
	for range 4 {
		many.Go(func() {
			for range 20 {
				c.Refresh()
			}
		})
		many.Go(func() {
			last := c.Sample().Time
			for range 100 {
				s := c.Sample()
				if s.Time.Before(last) {
					t.Errorf("a sample of %s came after one of %s", s.Time, last)
				}
				last = s.Time
			}
		})
	}
	many.Wait()
}
