package follow

import (
	"errors"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	refusal := errors.New("remote error: tls: bad certificate")
	type took struct {
		after time.Duration // the one before
		err   error
	}
	const soon = 15 * time.Second
	for _, test := range []struct {
		name  string
		took  []took
		told  int // that there are refusals
		given bool
	}{
		{"none", nil, 0, false},
		{"one amid a replacement", []took{{0, refusal}, {soon, nil}}, 0, false},
		{"three", []took{{0, refusal}, {0, refusal}, {0, refusal}}, 1, false},
		{"two rows", []took{{0, refusal}, {0, refusal}, {0, refusal}, {soon, nil}, {0, refusal}, {0, refusal}, {0, refusal}}, 2, false},
		{"in vain", []took{{0, refusal}, {soon, refusal}, {soon, refusal}, {RefusedWait, refusal}}, 1, true},
		{"until the last moment", []took{{0, refusal}, {0, refusal}, {0, refusal}, {RefusedWait, refusal}}, 1, false},
		{"two in a long time", []took{{0, refusal}, {10 * time.Minute, refusal}}, 0, false},
		{"until the kubelet has brought the new ones", []took{{0, refusal}, {soon, refusal}, {soon, refusal}, {soon, nil},
			{10 * time.Minute, refusal}, {10 * time.Minute, refusal}}, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
			var r row
			told, gave := 0, false
			for _, h := range test.took {
				now = now.Add(h.after)
				var v verdict
				switch r, v = r.judge(h.err, now); v {
				case refused:
					told++
				case given:
					gave = true
				}
			}
			if told != test.told || gave != test.given {
				t.Errorf("told %d times, want %d; given up: %v, want %v", told, test.told, gave, test.given)
			}
		})
	}
}
