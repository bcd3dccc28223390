package shell

import "testing"

func TestLine(t *testing.T) {
	if got, want := Line([]string{"sh", "-c", "echo 'x' > y"}), `sh -c 'echo '\''x'\'' > y'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := Line(nil); got != "" {
		t.Errorf("got %q", got)
	}
}
