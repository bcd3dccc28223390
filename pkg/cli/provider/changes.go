package provider

import (
	"cmp"
	"fmt"
	"io"
	"os"

	"github.com/hodei-jobs/hodei/pkg/provider"
)

// providerChanges is what a command line does to a provider's settings.
type providerChanges struct {
	file                           providerFile
	keys                           []byte // of the flags, as JSON
	namespace, context, kubeconfig string // of the kube flags; empty: not given
}

// over puts the file, if there is one, then the flags over c, and returns the name that the file
// gives.
func (ch *providerChanges) over(c *provider.Config) (name string, err error) {
	if ch.file.called == "" {
		return "", ch.flagsOver(c)
	}
	if name, err = c.Merge(ch.file.data); err == nil {
		err = ch.flagsOver(c)
	}
	if err != nil { // the flags alone were in order
		return "", fmt.Errorf("%s: %w", ch.file.called, err)
	}
	return name, nil
}

// flagsOver puts the flags over c. The result is valid, or there is an error.
func (ch *providerChanges) flagsOver(c *provider.Config) error {
	if _, err := c.Merge(ch.keys); err != nil {
		return err
	}
	c.Namespace = cmp.Or(ch.namespace, c.Namespace)
	c.Context = cmp.Or(ch.context, c.Context)
	c.Kubeconfig = cmp.Or(ch.kubeconfig, c.Kubeconfig)
	return c.Validate()
}

// providerFile is a file with a provider's settings, and what to call it. The zero
// value is none.
type providerFile struct {
	called string
	data   []byte
}

// name is the one that the file gives; empty: it gives none, or can't be read, which
// providerChanges.over says.
func (f providerFile) name() string {
	if f.called == "" {
		return ""
	}
	name, err := (&provider.Config{Type: provider.Kubernetes}).Merge(f.data)
	if err != nil {
		return ""
	}
	return name
}

// maxProviderFile is the most that is read of a file with a provider's settings. A
// ConfigMap may not be larger, and no one writes a tenth of it.
const maxProviderFile = 1 << 20

// readProvider reads a file with a provider's settings. "" is none, and - in.
func readProvider(in io.Reader, path string) (providerFile, error) {
	called := "stdin"
	switch path {
	case "":
		return providerFile{}, nil
	case "-":
	default:
		f, err := os.Open(path)
		if err != nil {
			return providerFile{}, err
		}
		defer f.Close()
		in, called = f, path
	}
	data, err := io.ReadAll(io.LimitReader(in, maxProviderFile+1))
	switch {
	case err != nil:
		return providerFile{}, fmt.Errorf("%s: %w", called, err)
	case len(data) > maxProviderFile:
		return providerFile{}, fmt.Errorf("%s: more than 1 MiB is no provider", called)
	}
	return providerFile{called, data}, nil
}
