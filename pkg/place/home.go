package place

import (
	"errors"
	"io/fs"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// Home is where hodei keeps what is its own on this machine: the file of providers, certificates and
// the output of jobs, all by variables of the environment. It belongs to one goroutine.
type Home struct {
	// Getenv is os.Getenv, and something else in tests.
	Getenv func(string) string
	looked map[string]Kubeconfig
}

// Providers reads the file of providers. Without a place for it there are none.
func (h *Home) Providers() (*provider.Registry, error) {
	path, err := provider.Path(h.Getenv)
	if errors.Is(err, provider.ErrNoPlace) {
		return &provider.Registry{}, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := provider.Load(path)
	return r, ProviderHint(err)
}

// ProvidersPath is where the file of providers is, for whoever writes it.
func (h *Home) ProvidersPath() (string, error) {
	path, err := provider.Path(h.Getenv)
	if err != nil {
		return "", &job.Hinted{Err: err, Hint: "export XDG_CONFIG_HOME=DIR"}
	}
	return path, nil
}

// ProviderHint says how to list the names if err is an unknown one, who holds the file if
// another hodei edits it, and how to keep the file elsewhere if it can't be there.
func ProviderHint(err error) error {
	if busy, ok := errors.AsType[*provider.BusyError](err); ok {
		return &job.Hinted{Err: err, Hint: "see by whom: fuser -v " + shell.Quote(busy.Lock)}
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok && job.HintOf(err) == "" {
		return &job.Hinted{Err: err, Hint: "export XDG_CONFIG_HOME=DIR"}
	}
	if errors.Is(err, provider.ErrNotFound) {
		return &job.Hinted{Err: err, Hint: "{hodei} provider list"}
	}
	return err
}

// Decide finds the cluster that by means.
func (h *Home) Decide(by Asked) (Target, error) {
	r, err := h.Providers()
	if err != nil {
		return Target{}, err
	}
	t, err := decide(by, r, h.Look)
	return t, ProviderHint(err)
}
