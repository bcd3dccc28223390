package place

import "testing"

func TestStoreWritable(t *testing.T) {
	if err := Writable(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := Writable("/proc/self"); err == nil {
		t.Error("/proc can be written to")
	}
}

func TestStoreLimits(t *testing.T) {
	for _, test := range []struct{ bytes, age, err string }{
		{"", "", ""},
		{"5Gi", "1h", ""},
		{"0", "", "HODEI_LOG_MAX_BYTES 0: want 1Mi to 1Pi"},
		{"x", "", `HODEI_LOG_MAX_BYTES "x": want a quantity such as 10Gi`},
		{"500m", "", "HODEI_LOG_MAX_BYTES 500m: want 1Mi to 1Pi; did you mean 500Mi?"},
		{"", "59s", `HODEI_LOG_MAX_AGE "59s": want a duration such as 168h, 1m0s or more`},
		{"", "7d", `HODEI_LOG_MAX_AGE "7d": want a duration such as 168h, 1m0s or more`},
		{"", "-1s", `HODEI_LOG_MAX_AGE "-1s": want a duration such as 168h, 1m0s or more`},
	} {
		env := map[string]string{"HODEI_LOG_MAX_BYTES": test.bytes, "HODEI_LOG_MAX_AGE": test.age}
		h := &Home{Getenv: func(name string) string { return env[name] }}
		l, err := h.StoreLimits()
		if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
			t.Errorf("%+v: %v", test, err)
		}
		if test.bytes == "5Gi" && (l.MaxBytes != 5<<30 || l.MaxAge.Hours() != 1) {
			t.Errorf("limits %+v", l)
		}
	}
}

func TestStoreDir(t *testing.T) {
	for _, test := range []struct{ state, Home, want string }{
		{"/s", "/h", "/s/hodei/jobs"},
		{"", "/h", "/h/.local/state/hodei/jobs"},
		{"relative", "/h", "/h/.local/state/hodei/jobs"},
		{"", "", ""},
	} {
		env := map[string]string{"XDG_STATE_HOME": test.state, "HOME": test.Home}
		h := &Home{Getenv: func(name string) string { return env[name] }}
		if got, err := h.StoreDir(); got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%+v: got %q, %v", test, got, err)
		}
	}
}
