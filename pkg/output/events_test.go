package output

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output/outputtest"
)

// A program that reads the events gets every byte of the output back.
func FuzzEvents(f *testing.F) {
	for _, s := range []string{
		"", "a", "\n", "null", "yes", "1e3", "~", " a ", "\t", "\x00", "\xff", "\r\n", "\u0085\u2028\ufeff", "--- |\n",
		"<&>", "\ufffd", "é",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range []string{"json", "yaml"} {
			var out bytes.Buffer
			w := &Events{Out: &out, YAML: format == "yaml"}
			if err := w.Record("a", 1, &hodeipb.Record{Stream: hodeipb.Stream_STDOUT, Length: uint32(len(data))}, data); err != nil {
				t.Fatal(err)
			}
			var e struct{ Text, Base64 string }
			decode := json.Unmarshal
			if format == "yaml" {
				decode = func(b []byte, v any) error { return yaml.Unmarshal(b, v) }
			} else if bytes.Count(out.Bytes(), []byte("\n")) != 1 {
				t.Errorf("json: more than a line: %q", out.Bytes())
			}
			if err := decode(out.Bytes(), &e); err != nil {
				t.Fatalf("%s of %q: %v\n%s", format, data, err, out.Bytes())
			}
			got := []byte(e.Text)
			if e.Base64 != "" {
				got, _ = base64.StdEncoding.DecodeString(e.Base64)
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%s: %q comes back as %q from\n%s", format, data, got, out.Bytes())
			}
		}
	})
}

// The name of an OOM victim is the job's own choice, and can do nothing to a terminal.
func TestUsageEventHostile(t *testing.T) {
	var out bytes.Buffer
	w := &Events{Out: &out}
	u := job.Usage{Memory: job.MemoryUsage{OOMVictim: &job.OOMVictim{Name: "a\x1b]0;b\a\u202e", Pid: 1}}}
	if err := w.Usage("x-1", job.Sample{Usage: u}); err != nil {
		t.Fatal(err)
	}
	if err := w.Exit(&job.Outcome{Usage: &u}, ""); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), `"name":"a]0;b"`) != 2 {
		t.Errorf("got %s", out.String())
	}
	if u.Memory.OOMVictim.Name != "a\x1b]0;b\a\u202e" {
		t.Error("what was measured was changed")
	}
}

// Nothing in events commands a terminal, and all of it is still there.
func TestEventsHostile(t *testing.T) {
	const hostile = "a\x1b\x7f\u009b2J\u202eb\u2066ü✓"
	for _, format := range []string{"json", "yaml"} {
		var out bytes.Buffer
		err := (&Events{Out: &out, YAML: format == "yaml"}).Write(job.OOMVictim{Name: hostile})
		if err != nil || outputtest.CommandsTerminal(out.String()) {
			t.Errorf("%s: %q, %v", format, out.String(), err)
		}
		var v job.OOMVictim
		if err := yaml.Unmarshal(out.Bytes(), &v); err != nil || v.Name != hostile {
			t.Errorf("%s: read back %q, %v", format, v.Name, err)
		}
	}
}
