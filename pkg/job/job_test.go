package job

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

func quantity(s string) *resource.Quantity {
	q := resource.MustParse(s)
	return &q
}

func TestValidate(t *testing.T) {
	long := strings.Repeat("a", MaxNameLength)
	tests := []struct {
		name   string
		change func(*Spec)
		want   string // of the error; empty: none
	}{
		{"least", func(*Spec) {}, ""},
		{"everything", func(s *Spec) {
			s.Env = []EnvVar{{"A_b.c-1", ""}, {"X", "\n\t\x1b=\u2028ü\ufffd"}}
			s.EnvFrom = []EnvSource{{Secret: "a.b"}, {ConfigMap: "c"}}
			s.CPU, s.CPULimit = quantity("1"), quantity("1")
			s.Memory, s.MemoryLimit = quantity("1Gi"), quantity("2Gi")
			s.EphemeralStorage = quantity("1Gi")
			s.User, s.Retries, s.Timeout = "0:0", 3, time.Hour
			s.LogSpool, s.LogOverflow, s.ContainerLogs, s.Detached = quantity("5Gi"), OverflowBlock, true, true
		}, ""},
		{"no command", func(s *Spec) { s.Command = nil }, "command: must be given"},
		{"empty command", func(s *Spec) { s.Command = []string{"", "x"} }, "command: must be given"},
		{"empty argument", func(s *Spec) { s.Command = []string{"echo", ""} }, ""},
		{"NUL in an argument", func(s *Spec) { s.Command = []string{"echo", "a\x00b"} }, "command[1]: holds a NUL byte"},
		{"latin-1", func(s *Spec) { s.Command = []string{"printf", "%s", "caf\xe9"} },
			"command[2]: holds the byte 0xe9, which is not UTF-8"},
		{"a command in latin-1", func(s *Spec) { s.Command = []string{"\ufffd\xe9"} },
			"command[0]: holds the byte 0xe9, which is not UTF-8"},
		{"C1 control", func(s *Spec) { s.Command = []string{"tr", "-d", "\u009b"} },
			"command[2]: holds the character U+009B, which YAML can't carry"},
		{"DEL", func(s *Spec) { s.Env = []EnvVar{{"A", "\x7f"}} }, "env[0].value: holds the character U+007F, which YAML can't carry"},
		{"no character", func(s *Spec) { s.Workdir = "/\uffff" }, "workdir: holds the character U+FFFF, which YAML can't carry"},
		{"the longest argument", func(s *Spec) { s.Command = []string{"echo", strings.Repeat("<", 131071)} }, ""},
		{"longer", func(s *Spec) { s.Command = []string{strings.Repeat("x", 131072)} },
			"command[0]: has 131072 bytes: Linux takes at most 131071"},
		{"the longest variable", func(s *Spec) { s.Env = []EnvVar{{"AB", strings.Repeat("x", 131068)}} }, ""},
		{"a longer one", func(s *Spec) { s.Env = []EnvVar{{"AB", strings.Repeat("x", 131069)}} },
			"env[0].value: has 131072 bytes: Linux takes at most 131071"},
		{"many arguments", func(s *Spec) { s.Command = slices.Repeat([]string{"x"}, 196_000) }, ""},
		{"more of them", func(s *Spec) { s.Command = slices.Repeat([]string{"x"}, 197_000) },
			"the command with its variables has 1970000 bytes: Linux takes at most 1966080"},
		{"image with a space", func(s *Spec) { s.Image = "a b" }, `image: "a b": want REGISTRY/NAME:TAG, without spaces`},
		{"image in latin-1", func(s *Spec) { s.Image = "\xe9" }, `image: "\xe9": want REGISTRY/NAME:TAG, without spaces`},
		{"no name", func(s *Spec) { s.Name = "" }, `name: "": want lower-case letters`},
		{"longest name", func(s *Spec) { s.Name = long }, ""},
		{"name too long", func(s *Spec) { s.Name = long + "a" }, "at most 57 of them"},
		{"capitals", func(s *Spec) { s.Name = "Make" }, `name: "Make"`},
		{"dash first", func(s *Spec) { s.Name = "-a" }, `name: "-a"`},
		{"dot", func(s *Spec) { s.Name = "a.b" }, `name: "a.b"`},
		{"variable without a name", func(s *Spec) { s.Env = []EnvVar{{"", "x"}} }, `env[0].name: "": not a variable's name`},
		{"variable with =", func(s *Spec) { s.Env = []EnvVar{{"A=B", "x"}} }, `env[0].name: "A=B": not a variable's name`},
		{"NUL in a variable", func(s *Spec) { s.Env = []EnvVar{{"A", "\x00"}} }, "env[0].value: holds a NUL byte"},
		{"source of neither kind", func(s *Spec) { s.EnvFrom = []EnvSource{{}} }, "want secret/NAME or configmap/NAME"},
		{"source of both kinds", func(s *Spec) { s.EnvFrom = []EnvSource{{"a", "b"}} }, "want secret/NAME or configmap/NAME"},
		{"source with a bad name", func(s *Spec) { s.EnvFrom = []EnvSource{{Secret: "A B"}} }, `envFrom[0]: "A B"`},
		{"user by name", func(s *Spec) { s.User = "root" }, `user: "root": want UID or UID:GID, in numbers`},
		{"negative timeout", func(s *Spec) { s.Timeout = -1 }, "timeout: -1ns: must not be negative"},
		{"negative start timeout", func(s *Spec) { s.StartTimeout = -time.Second }, "startTimeout: -1s: must not be negative"},
		{"negative grace", func(s *Spec) { s.Grace = -time.Second }, "grace: -1s: must not be negative"},
		{"negative ttl", func(s *Spec) { s.TTL = -time.Second }, "ttl: -1s: must not be negative"},
		{"negative linger", func(s *Spec) { s.Linger = -time.Second }, "linger: -1s: must not be negative"},
		{"absurd retries", func(s *Spec) { s.Retries = 1 << 30 }, "retries: 1073741824: want 0 to 1000"},
		{"a terminal", func(s *Spec) { s.TTY, s.Stdin, s.Retries = true, true, 0 }, ""},
		{"a terminal and no input", func(s *Spec) { s.TTY = true }, "tty: needs somebody who types: add -i"},
		{"a terminal and one pipe", func(s *Spec) { s.TTY, s.Stdin, s.MergeOutput = true, true, true },
			"mergeOutput: is not needed with a terminal, which has one stream"},
		{"a terminal and retries", func(s *Spec) { s.TTY, s.Stdin, s.Retries = true, true, 1 },
			"retries: can't be had with a terminal: what was typed is not typed again"},
		{"negative retries", func(s *Spec) { s.Retries = -1 }, "retries: -1: want 0 to 1000"},
		{"no cpu", func(s *Spec) { s.CPU = quantity("0") }, "cpu: 0: want 1m to 10k"},
		{"negative memory", func(s *Spec) { s.Memory = quantity("-1Mi") }, "memory: -1Mi: want 4Mi to 1Pi"},
		{"no limit", func(s *Spec) { s.MemoryLimit = quantity("0") }, "memoryLimit: 0: want 4Mi to 1Pi"},
		{"limit below request", func(s *Spec) { s.CPU, s.CPULimit = quantity("1"), quantity("500m") }, "cpu: 1: more than cpuLimit: 500m"},
		{"no storage", func(s *Spec) { s.EphemeralStorage = quantity("0") }, "ephemeralStorage: 0: want 4Ki to 1Pi"},
		{"negative gpus", func(s *Spec) { s.GPU = -1 }, "gpu: -1: want 0 to 1024"},
		{"absurd gpus", func(s *Spec) { s.GPU = 1 << 20 }, "gpu: 1048576: want 0 to 1024"},
		{"half a byte", func(s *Spec) { s.Memory = quantity("512m") }, "memory: 512m: want 4Mi to 1Pi; did you mean 512Mi?"},
		{"smallest spool", func(s *Spec) { s.LogSpool = quantity("1Mi") }, ""},
		{"spool too small", func(s *Spec) { s.LogSpool = quantity("1048575") }, "logSpool: 1048575: want 1Mi to 16Ti"},
		{"no spool", func(s *Spec) { s.LogSpool = quantity("0") }, "logSpool: 0: want 1Mi to 16Ti"},
		{"negative spool", func(s *Spec) { s.LogSpool = quantity("-1Gi") }, "logSpool: -1Gi: want 1Mi to 16Ti"},
		{"largest spool", func(s *Spec) { s.LogSpool = quantity("16Ti") }, ""},
		{"spool that no int64 holds", func(s *Spec) { s.LogSpool = quantity("9Ei") }, "want 1Mi to 16Ti"},
		{"dropping", func(s *Spec) { s.LogOverflow = OverflowDrop }, ""},
		{"overflow in other words", func(s *Spec) { s.LogOverflow = "Block" }, `logOverflow: "Block": want block or drop`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &Spec{Name: "make-k3x9z", Command: []string{"make"}}
			tt.change(s)
			err := s.Validate()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("error %q", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if _, ok := errors.AsType[*FieldError](err); err != nil && !ok {
				t.Errorf("%T has no path", err)
			}
		})
	}
}

func TestSetDefaults(t *testing.T) {
	s := &Spec{Command: []string{"/usr/bin/make", "test"}}
	s.SetDefaults()
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if s.Grace != DefaultGrace || s.StartTimeout != DefaultStartTimeout || s.TTL != DefaultTTL || s.Linger != DefaultLinger ||
		s.Timeout != 0 ||
		s.LogSpool.Value() != 1<<30 || s.LogOverflow != "" {
		t.Errorf("defaults %+v", s)
	}
	mine := Spec{Name: "a", Command: []string{"b"}, Grace: 1, StartTimeout: 2, TTL: 3, Linger: 4, Timeout: 5, Retries: 6,
		LogSpool:    quantity("7Mi"),
		LogOverflow: OverflowDrop}
	want, _ := json.Marshal(mine)
	mine.SetDefaults()
	if got, _ := json.Marshal(mine); string(got) != string(want) {
		t.Errorf("defaults have overwritten %s with %s", want, got)
	}
}

func TestNewName(t *testing.T) {
	tests := []struct {
		name    string
		command []string
		want    string // a pattern without the last five letters
	}{
		{"plain", []string{"make", "test"}, "hodei-make-"},
		{"path", []string{"/usr/local/bin/train.py"}, "hodei-train-py-"},
		{"capitals", []string{"./Run_All"}, "hodei-run-all-"},
		{"long", []string{strings.Repeat("abcdefghi-", 10)}, "hodei-abcdefghi-abcdefghi-"},
		{"cut at a dash", []string{"abcdefghijklmnopqrs-tuv"}, "hodei-abcdefghijklmnopqrs-"},
		{"nothing left", []string{"日本語"}, "hodei-job-"},
		{"dashes alone", []string{"--"}, "hodei-job-"},
		{"mixed", []string{"größe"}, "hodei-gre-"},
		{"root", []string{"/"}, "hodei-job-"},
		{"empty", []string{""}, "hodei-job-"},
		{"none", nil, "hodei-job-"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := regexp.MustCompile("^" + tt.want + "[bcdfghjklmnpqrstvwxz2456789]{5}$")
			got := newName(tt.command)
			if !want.MatchString(got) {
				t.Errorf("got %s, want %s", got, want)
			}
			if newName(tt.command) == got {
				t.Errorf("%s came twice", got)
			}
		})
	}
}

func FuzzNewName(f *testing.F) {
	f.Add("make")
	f.Add("a/--")
	f.Add("\xff.\x00")
	f.Fuzz(func(t *testing.T, command string) {
		name := newName([]string{command})
		if errs := validation.IsDNS1123Label(name); len(errs) > 0 || len(name) > MaxNameLength {
			t.Errorf("%q for the command %q: %v", name, command, errs)
		}
	})
}

func TestParseUser(t *testing.T) {
	id := func(n int64) *int64 { return &n }
	tests := []struct {
		name, in string
		uid, gid *int64
		err      string
	}{
		{"not given", "", nil, nil, ""},
		{"the image's", UserImage, nil, nil, ""},
		{"the image's with a group", "image:5", nil, nil, "want UID or UID:GID"},
		{"uid", "1000", id(1000), nil, ""},
		{"both", "0:65534", id(0), id(65534), ""},
		{"largest", "2147483647:2147483647", id(1<<31 - 1), id(1<<31 - 1), ""},
		{"leading zero is not octal", "010", id(10), nil, ""},
		{"leading zero is not root", "08:09", id(8), id(9), ""},
		{"uid too large", "2147483648", nil, nil, "an id is at most 2147483647"},
		{"gid too large", "1:4294967295", nil, nil, "an id is at most 2147483647"},
		{"eleven digits", "00000000001", nil, nil, "want UID or UID:GID"},
		{"name", "root", nil, nil, "want UID or UID:GID"},
		{"negative", "-1", nil, nil, "want UID or UID:GID"},
		{"no uid", ":1", nil, nil, "want UID or UID:GID"},
		{"no gid", "1:", nil, nil, "want UID or UID:GID"},
		{"three", "1:2:3", nil, nil, "want UID or UID:GID"},
		{"space", " 1", nil, nil, "want UID or UID:GID"},
		{"line end", "1\n", nil, nil, "want UID or UID:GID"},
		{"other digits", "１", nil, nil, "want UID or UID:GID"},
	}
	equal := func(a, b *int64) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			uid, gid, err := ParseUser(tt.in)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || !equal(uid, tt.uid) || !equal(gid, tt.gid) {
				t.Errorf("got %v, %v, %v", uid, gid, err)
			}
		})
	}
}
