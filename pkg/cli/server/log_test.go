package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRefusals: who knocks without end does not fill the log, and is counted.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		r := &turnedAway{log: slog.New(slog.NewTextHandler(&log, nil))}
		from := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7}
		lines := func(want int, last string) {
			t.Helper()
			all := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
			if len(all) != want || !strings.HasSuffix(all[len(all)-1], last) {
				t.Errorf("%d lines, want %d:\n%s", len(all), want, log.String())
			}
			log.Reset()
		}
		for i := range 1000 {
			r.tell(from, fmt.Errorf("no %d", i))
		}
		lines(maxRefusals, `msg="agent turned away" address=192.0.2.1:7 error="no 19"`)
		time.Sleep(refusalWindow)
		r.tell(from, errors.New("again"))
		lines(2, "error=again")
		for range maxRefusals {
			r.tell(from, errors.New("no"))
		}
		log.Reset()
		r.end()
		lines(1, `msg="more agents turned away" count=1`)
	})
}
