package place

import (
	"errors"
	"io/fs"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// Home finds hodei's own files on this machine: the file of providers, certificates and the output of jobs. Variables
// of the environment say where they are. Getenv is required. A Home is for one goroutine.
type Home struct {
	// Getenv is os.Getenv, except in tests.
	Getenv func(string) string
	looked map[string]Kubeconfig // what Look has read, by file
}

// Providers reads the file of providers. If there is no place for the file, there are no providers.
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

// ProvidersPath returns where the file of providers is, for those who write it. The error has a hint.
func (h *Home) ProvidersPath() (string, error) {
	path, err := provider.Path(h.Getenv)
	if err != nil {
		return "", &job.Hinted{Err: err, Hint: "export XDG_CONFIG_HOME=DIR"}
	}
	return path, nil
}

// ProviderHint adds a hint to an error about the file of providers: how to list the names if one is unknown, how to see
// who holds the file if it is locked, or how to keep the file elsewhere if it can't be where it is. Other errors, and
// nil, are returned as they are.
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

// Decide returns the cluster that a command line means. See [Target] for the rule.
func (h *Home) Decide(by Asked) (Target, error) {
	r, err := h.Providers()
	if err != nil {
		return Target{}, err
	}
	t, err := decide(by, r, h.Look)
	return t, ProviderHint(err)
}
