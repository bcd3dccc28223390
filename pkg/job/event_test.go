package job

import (
	"encoding/json"
	"testing"
)

// Each phase has a name of its own, by which it comes back from JSON.
func TestPhaseNames(t *testing.T) {
	seen := map[string]Phase{}
	for p := Phase(0); int(p) < phaseCount; p++ {
		name := p.String()
		if other, taken := seen[name]; name == "" || taken {
			t.Errorf("phase %d is called %q, as is %d", p, name, other)
		}
		seen[name] = p
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		back := Phase(-1)
		if err := json.Unmarshal(text, &back); err != nil || back != p {
			t.Errorf("%s is read back as %d, %v", text, back, err)
		}
	}
}

// What is no phase can be shown, and not be read.
func TestNoPhase(t *testing.T) {
	for p, want := range map[Phase]string{-1: "phase -1", Phase(phaseCount): "phase 6"} {
		if got := p.String(); got != want {
			t.Errorf("phase %d is called %q, want %q", int(p), got, want)
		}
	}
	for _, text := range []string{"", "Running", "phase 6"} {
		var p Phase
		if err := p.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %s", text, p)
		}
	}
}

func TestEventNext(t *testing.T) {
	for _, test := range []struct {
		event Event
		want  string
	}{
		{Event{Phase: Submitted}, "waiting for a node"},
		{Event{Phase: Submitted, Here: true}, "waiting for the agent"},
		{Event{Phase: AgentUp, Here: true}, "waiting for the command"},
		{Event{Phase: Running}, ""},
	} {
		if got := test.event.Next(); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.event, got, test.want)
		}
	}
}
