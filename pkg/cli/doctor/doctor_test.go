package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hodei-jobs/hodei/pkg/check"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// doctoring returns the options of a doctor that finds results in the cluster, and what it prints.
func doctoring(t *testing.T, results ...check.Result) (*Options, *strings.Builder) {
	dir := t.TempDir()
	t.Chdir(dir)
	var out strings.Builder
	return &Options{
		Out:  &out,
		home: &place.Home{Getenv: func(name string) string { return map[string]string{"HOME": dir}[name] }},
		choose: func() (string, provider.Config, error) {
			return "prod", provider.Config{Type: provider.Kubernetes, Context: "c", Namespace: "n"}, nil
		},
		cluster: func(context.Context, string, provider.Config) ([]check.Result, *check.Cluster) { return results, nil },
		named:   func(hint string) string { return strings.ReplaceAll(hint, "{hodei}", "kubectl hodei") },
	}, &out
}

// A failed check is the exit code, and a warning is not.
func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name   string
		result check.Result
		code   int
		want   []string
	}{
		{"all is well", check.New("cluster", check.OK, "", "v1"), 0,
			[]string{"cluster          v1\n", " 0 warnings, 0 failed, 0 not checked\n"}},
		{"a warning", check.New("cluster", check.Warning, "", "old"), 0,
			[]string{" 1 warning, 0 failed, 0 not checked\n"}},
		{"a failed check", check.New("cluster", check.Error, "{hodei} install", "none"), 1,
			[]string{"hint: kubectl hodei install\n", " 0 warnings, 1 failed, 0 not checked\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, out := doctoring(t, tt.result)
			err, code := o.Run(t.Context()), 0
			if exit, ok := errors.AsType[*job.ExitError](err); ok && exit.Err == nil {
				code, err = exit.Code, nil
			}
			if err != nil || code != tt.code {
				t.Errorf("exit code %d, error %v; want %d", code, err, tt.code)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got %q, want %q in it", out, want)
				}
			}
		})
	}
}

// What was cut short is not shown as if it had failed.
func TestRunInterrupted(t *testing.T) {
	o, out := doctoring(t, check.New("cluster", check.Error, "", "context canceled"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Run(ctx); !errors.Is(err, context.Canceled) || out.Len() > 0 {
		t.Errorf("error %v, and shown: %q", err, out)
	}
}
