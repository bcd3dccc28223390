package signals

import "testing"

func TestNumber(t *testing.T) {
	for _, test := range []struct {
		text string
		want int32
		err  string
	}{
		{text: "USR1", want: 10},
		{text: "SIGUSR1", want: 10},
		{text: "sigterm", want: 15},
		{text: "9", want: 9},
		{text: "34", want: 34},
		{text: "64", want: 64},
		{text: "SYS", want: 31},
		{text: "0", err: "signal 0: want 1 to 64"},
		{text: "65", err: "signal 65: want 1 to 64"},
		{text: "-1", err: "signal -1: want 1 to 64"},
		{text: "", err: `signal "": want a name, such as USR1 or SIGUSR1, or a number`},
		{text: "SIG", err: `signal "SIG": want a name, such as USR1 or SIGUSR1, or a number`},
		{text: "USR3", err: `signal "USR3": want a name, such as USR1 or SIGUSR1, or a number`},
	} {
		got, err := Number(test.text)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if got != test.want || said != test.err {
			t.Errorf("%q: got %d, %q, want %d, %q", test.text, got, said, test.want, test.err)
		}
	}
	for n, name := range Names() {
		if got, err := Number(name); got != int32(n+1) || err != nil || LinuxName(got) != "SIG"+name {
			t.Errorf("%s: got %d, %v, and back %s", name, got, err, LinuxName(got))
		}
	}
	for sig, number := range PassedOn {
		if got := LinuxName(number); got != Name(sig) {
			t.Errorf("%d is %s, want %s", number, got, Name(sig))
		}
	}
	if got := LinuxName(40); got != "signal 40" {
		t.Errorf("got %s", got)
	}
}
