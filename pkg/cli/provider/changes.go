package provider

import (
	"cmp"
	"fmt"
	"io"
	"os"

	"github.com/hodei-jobs/hodei/pkg/provider"
)

// settingChanges is what a command line changes in a provider's settings.
type settingChanges struct {
	file                           settingsFile
	keys                           []byte // the flags, as a JSON object
	namespace, context, kubeconfig string // the kube flags; empty: not given
}

// over applies the file, if there is one, and then the flags to c. It returns the name that the file gives.
func (ch *settingChanges) over(c *provider.Config) (name string, err error) {
	if ch.file.called == "" {
		return "", ch.flagsOver(c)
	}
	if name, err = c.Merge(ch.file.data); err == nil {
		err = ch.flagsOver(c)
	}
	if err != nil { // it is the file's: the flags alone were in order
		return "", fmt.Errorf("%s: %w", ch.file.called, err)
	}
	return name, nil
}

// flagsOver applies the flags to c. Without an error, c is valid afterwards.
func (ch *settingChanges) flagsOver(c *provider.Config) error {
	if _, err := c.Merge(ch.keys); err != nil {
		return err
	}
	c.Namespace = cmp.Or(ch.namespace, c.Namespace)
	c.Context = cmp.Or(ch.context, c.Context)
	c.Kubeconfig = cmp.Or(ch.kubeconfig, c.Kubeconfig)
	return c.Validate()
}

// settingsFile is a file with a provider's settings, and what to call it in an error. The zero value: no file.
type settingsFile struct {
	called string
	data   []byte
}

// name returns the provider's name in the file; empty: it has none, or can't be read, which settingChanges.over
// reports.
func (f settingsFile) name() string {
	if f.called == "" {
		return ""
	}
	name, err := (&provider.Config{Type: provider.Kubernetes}).Merge(f.data)
	if err != nil {
		return ""
	}
	return name
}

// maxSettingsFile bounds a file with a provider's settings, in bytes. A ConfigMap may not be larger either, and
// nobody writes a tenth of it.
const maxSettingsFile = 1 << 20

// readSettings reads a file with a provider's settings. The path "" is no file, and "-" is in.
func readSettings(in io.Reader, path string) (settingsFile, error) {
	called := "stdin"
	switch path {
	case "":
		return settingsFile{}, nil
	case "-":
	default:
		f, err := os.Open(path)
		if err != nil {
			return settingsFile{}, err
		}
		defer f.Close()
		in, called = f, path
	}
	data, err := io.ReadAll(io.LimitReader(in, maxSettingsFile+1))
	switch {
	case err != nil:
		return settingsFile{}, fmt.Errorf("%s: %w", called, err)
	case len(data) > maxSettingsFile:
		return settingsFile{}, fmt.Errorf("%s: more than 1 MiB is no provider", called)
	}
	return settingsFile{called, data}, nil
}
