package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// maxProviderFile is the most that is read of a file with a provider's settings. A
// ConfigMap may not be larger, and no one writes a tenth of it.
const maxProviderFile = 1 << 20

// settingKind is how a flag's text becomes a key's value.
type settingKind int

const (
	text  settingKind = iota
	list              // one element each time
	pairs             // KEY=VALUE each time
	truth
)

// providerSettings are the flags of a provider's keys. The flag's name is the key's,
// with dashes, and without its plural's s where it may be repeated.
var providerSettings = []struct {
	flag, key string
	kind      settingKind
	usage     string
}{
	{"image", "image", text, "Image of the worker (default " + provider.DefaultImage + ")."},
	{"image-pull-policy", "image_pull_policy", text, "When a node pulls the worker's image: Always, IfNotPresent or Never (default: IfNotPresent)."},
	{"image-pull-secret", "image_pull_secrets", list, "Secret of the namespace with which images are pulled; may be repeated."},
	{"service-account", "service_account", text, "Service account of the workers (default " + provider.DefaultServiceAccount + ")."},
	{"container-logs", "container_logs", truth, "Copy the output of all jobs to their container's log; =false: of none. run's flag overrides it (default: detached jobs only)."},
	{"cpu", "cpu", text, "CPUs of a job that names none: request and limit."},
	{"cpu-limit", "cpu_limit", text, "CPU limit of a job that names none (default: --cpu)."},
	{"memory", "memory", text, "Memory of a job that names none: request and limit."},
	{"memory-limit", "memory_limit", text, "Memory limit of a job that names none (default: --memory)."},
	{"ephemeral-storage", "ephemeral_storage", text, "Disk that a job may fill on its node if it names no size (default " + kubernetes.DefaultEphemeralStorage + ")."},
	{"user", "user", text, "UID or UID:GID of commands, or image: the image's own, or the one that the cluster gives (default: a uid of each job's own)."},
	{"host-users", "host_users", truth, "Whether Pods use the uids of their node; =false gives each a user namespace of its own (default true)."},
	{"ttl", "ttl", text, "How long a finished job stays in the cluster (default 1h)."},
	{"start-timeout", "start_timeout", text, "When to give up on a command that has not started (default 10m)."},
	{"gpu-resource", "gpu_resource", text, "Resource that run's --gpu asks for (default " + provider.DefaultGPUResource + ")."},
	{"node-selector", "node_selector", pairs, "Label KEY=VALUE of the nodes that jobs run on; may be repeated."},
	{"priority-class", "priority_class", text, "PriorityClass of Pods."},
	{"runtime-class", "runtime_class", text, "RuntimeClass of Pods, such as gvisor."},
	{"queue", "queue", text, "LocalQueue of Kueue in which jobs wait to be admitted."},
	{"ebpf", "ebpf", text, "Measure jobs with eBPF too: off, auto (if the namespace's Pod Security allows the agent's capabilities) or require (default off)."},
	{"label", "labels", pairs, "Label KEY=VALUE of Jobs and Pods; may be repeated."},
	{"annotation", "annotations", pairs, "Annotation KEY=VALUE of Jobs and Pods; may be repeated."},
}

// providerFlags holds what was typed.
type providerFlags struct {
	app    *app
	flags  *pflag.FlagSet
	texts  map[string]*string
	lists  map[string]*[]string
	truths map[string]*bool
}

func (a *app) addProviderFlags(flags *pflag.FlagSet) *providerFlags {
	p := &providerFlags{app: a, flags: flags, texts: map[string]*string{}, lists: map[string]*[]string{}, truths: map[string]*bool{}}
	for _, s := range providerSettings {
		switch s.kind {
		case text:
			p.texts[s.flag] = flags.String(s.flag, "", s.usage)
		case list, pairs:
			p.lists[s.flag] = flags.StringArray(s.flag, nil, s.usage)
		case truth:
			p.truths[s.flag] = flags.Bool(s.flag, false, s.usage)
		}
	}
	return p
}

// changed says whether any of them was given.
func (p *providerFlags) changed() bool {
	for _, s := range providerSettings {
		if p.flags.Changed(s.flag) {
			return true
		}
	}
	return false
}

// merge puts what was typed into c, and takes the keys of unset out.
func (p *providerFlags) merge(c *provider.Config, unset []string) error {
	values := map[string]any{}
	kube := map[string]string{"namespace": *p.app.kube.Namespace, "context": *p.app.kube.Context, "kubeconfig": *p.app.kube.KubeConfig}
	for _, key := range unset {
		if slices.Contains([]string{"config", "name", "type"}, key) {
			return fmt.Errorf("--unset %s: it is no setting", key)
		}
		if kube[key] != "" {
			return fmt.Errorf("--unset %[1]s contradicts --%[1]s", key)
		}
		values[key] = nil
	}
	for _, s := range providerSettings {
		if !p.flags.Changed(s.flag) {
			continue
		}
		if slices.Contains(unset, s.key) {
			return fmt.Errorf("--unset %s contradicts --%s", s.key, s.flag)
		}
		for _, typed := range p.typed(s.flag) {
			if err := job.CheckText(typed); err != nil { // before JSON replaces its bytes
				return fmt.Errorf("--%s %q: holds %w", s.flag, typed, err)
			}
		}
		switch s.kind {
		case text:
			values[s.key] = *p.texts[s.flag]
		case list:
			values[s.key] = *p.lists[s.flag]
		case pairs:
			m := map[string]string{}
			for _, pair := range *p.lists[s.flag] {
				key, value, ok := strings.Cut(pair, "=")
				if !ok || key == "" {
					return fmt.Errorf("--%s %q: want KEY=VALUE", s.flag, pair)
				}
				m[key] = value
			}
			values[s.key] = m
		case truth:
			values[s.key] = *p.truths[s.flag]
		}
	}
	data, err := json.Marshal(values)
	if err != nil {
		return err
	}
	_, err = c.Merge(data)
	return err
}

// typed returns the texts of a flag.
func (p *providerFlags) typed(flag string) []string {
	if one := p.texts[flag]; one != nil {
		return []string{*one}
	}
	if many := p.lists[flag]; many != nil {
		return *many
	}
	return nil
}

// check refuses what is wrong with the command line alone, for a provider of type
// kind: before a file, or a kubeconfig, is read.
func (p *providerFlags) check(cmd *cobra.Command, kind string, unset []string) error {
	if err := p.mergeValid(&provider.Config{Type: kind}, unset); err != nil {
		return usagef(cmd, "%w", err)
	}
	return nil
}

// mergeAll puts a file, if there is one, then the flags, over c, and returns the name
// that the file gives.
func (p *providerFlags) mergeAll(c *provider.Config, file providerFile, unset []string) (name string, err error) {
	if file.called == "" {
		return "", p.mergeValid(c, unset)
	}
	if name, err = c.Merge(file.data); err == nil {
		err = p.mergeValid(c, unset)
	}
	if err != nil { // the flags alone were in order
		return "", fmt.Errorf("%s: %w", file.called, err)
	}
	return name, nil
}

func (p *providerFlags) mergeValid(c *provider.Config, unset []string) error {
	if err := p.merge(c, unset); err != nil {
		return err
	}
	if err := p.app.mergeKube(c); err != nil {
		return err
	}
	return c.Validate()
}

// mergeKube puts what the kube flags say into c, for another day and directory.
func (a *app) mergeKube(c *provider.Config) (err error) {
	c.Namespace = cmp.Or(*a.kube.Namespace, c.Namespace)
	c.Context = cmp.Or(*a.kube.Context, c.Context)
	if file := *a.kube.KubeConfig; file != "" {
		c.Kubeconfig, err = filepath.Abs(file)
	}
	return err
}

// providerFile is a file with a provider's settings, and what to call it. The zero
// value is none.
type providerFile struct {
	called string
	data   []byte
}

// readProvider reads a file with a provider's settings. "" is none, and - stdin.
func (a *app) readProvider(path string) (providerFile, error) {
	in, called := a.In, "stdin"
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
