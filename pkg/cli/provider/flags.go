package provider

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// settingKind is how a flag's text becomes a key's value.
type settingKind int

const (
	text  settingKind = iota
	list              // one element each time
	pairs             // KEY=VALUE each time
	truth
)

// allSettings are a provider's keys that have a flag. The flag has the key's name with dashes, in the singular if it
// may be repeated.
var allSettings = []struct {
	flag, key string
	kind      settingKind
	usage     string
}{
	{"image", "image", text, "Image of the worker (default " + provider.DefaultImage + ")."},
	{"image-pull-policy", "image_pull_policy", text,
		"When a node pulls the worker's image: Always, IfNotPresent or Never (default: IfNotPresent)."},
	{"image-pull-secret", "image_pull_secrets", list, "Secret of the namespace with which images are pulled; may be repeated."},
	{"service-account", "service_account", text, "Service account of the workers (default " + provider.DefaultServiceAccount + ")."},
	{"container-logs", "container_logs", truth,
		"Copy the output of all jobs to their container's log; =false: of none. run's flag overrides it (default: detached jobs only)."},
	{"exec", "exec", truth, "Let 'hodei exec' run other commands beside those of all jobs. run's flag overrides it (default false)."},
	{"cpu", "cpu", text, "CPUs of a job that names none: request and limit."},
	{"cpu-limit", "cpu_limit", text, "CPU limit of a job that names none (default: --cpu)."},
	{"memory", "memory", text, "Memory of a job that names none: request and limit."},
	{"memory-limit", "memory_limit", text, "Memory limit of a job that names none (default: --memory)."},
	{"ephemeral-storage", "ephemeral_storage", text,
		"Disk that a job may fill on its node if it names no size (default " + kubernetes.DefaultEphemeralStorage + ")."},
	{"user", "user", text,
		"UID or UID:GID of commands, or image: the image's own, or the one that the cluster gives (default: a uid of each job's own)."},
	{"host-users", "host_users", truth,
		"Whether Pods use the uids of their node; =false gives each a user namespace of its own (default true)."},
	{"ttl", "ttl", text, "How long a finished job stays in the cluster (default 1h)."},
	{"start-timeout", "start_timeout", text, "When to give up on a command that has not started (default 10m)."},
	{"gpu-resource", "gpu_resource", text, "Resource that run's --gpu asks for (default " + provider.DefaultGPUResource + ")."},
	{"node-selector", "node_selector", pairs, "Label KEY=VALUE of the nodes that jobs run on; may be repeated."},
	{"priority-class", "priority_class", text, "PriorityClass of Pods."},
	{"runtime-class", "runtime_class", text, "RuntimeClass of Pods, such as gvisor."},
	{"queue", "queue", text, "LocalQueue of Kueue in which jobs wait to be admitted."},
	{"ebpf", "ebpf", text,
		"Measure jobs with eBPF too: off, auto (if the namespace's Pod Security allows the agent's capabilities) " +
			"or require (default off)."},
	{"label", "labels", pairs, "Label KEY=VALUE of Jobs and Pods; may be repeated."},
	{"annotation", "annotations", pairs, "Annotation KEY=VALUE of Jobs and Pods; may be repeated."},
}

// settingFlags are the flags of a provider's settings, and the kube flags, which name its cluster.
type settingFlags struct {
	flags  *pflag.FlagSet
	texts  map[string]*string
	lists  map[string]*[]string
	truths map[string]*bool
	kube   *genericclioptions.ConfigFlags
	in     io.Reader // of -f -
}

// addSettingFlags adds the flags of a provider's settings to those of a command.
func addSettingFlags(env *command.Env, flags *pflag.FlagSet) *settingFlags {
	p := &settingFlags{
		flags: flags, kube: env.Kube, in: env.In,
		texts: map[string]*string{}, lists: map[string]*[]string{}, truths: map[string]*bool{},
	}
	for _, s := range allSettings {
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

// changed reports whether any of them was given.
func (p *settingFlags) changed() bool {
	for _, s := range allSettings {
		if p.flags.Changed(s.flag) {
			return true
		}
	}
	return *p.kube.Namespace != "" || *p.kube.Context != "" || *p.kube.KubeConfig != ""
}

// changes returns what the command line changes in the settings of a provider of type kind: the file at path, if it
// is not empty, the flags, and unset, the keys to take out. An error in the command line itself is a usage error, and
// comes before the file is read.
func (p *settingFlags) changes(cmd *cobra.Command, kind, path string, unset []string) (settingChanges, error) {
	changes := settingChanges{namespace: *p.kube.Namespace, context: *p.kube.Context, kubeconfig: *p.kube.KubeConfig}
	keys, err := p.keys(unset)
	if err != nil {
		return changes, command.Usagef(cmd, "%w", err)
	}
	if changes.keys, err = json.Marshal(keys); err != nil {
		return changes, err
	}
	if changes.kubeconfig != "" { // it is used later, from other directories
		if changes.kubeconfig, err = filepath.Abs(changes.kubeconfig); err != nil {
			return changes, err
		}
	}
	if err := changes.flagsOver(&provider.Config{Type: kind}); err != nil {
		return changes, command.Usagef(cmd, "%w", err)
	}
	changes.file, err = readSettings(p.in, path)
	return changes, err
}

// keys returns the values of the keys whose flags were given, and nil for those of unset.
func (p *settingFlags) keys(unset []string) (map[string]any, error) {
	keys := map[string]any{}
	kube := map[string]string{"namespace": *p.kube.Namespace, "context": *p.kube.Context, "kubeconfig": *p.kube.KubeConfig}
	for _, key := range unset {
		if slices.Contains([]string{"config", "name", "type"}, key) {
			return nil, fmt.Errorf("--unset %s: it is no setting", key)
		}
		if kube[key] != "" {
			return nil, fmt.Errorf("--unset %[1]s contradicts --%[1]s", key)
		}
		keys[key] = nil
	}
	for _, s := range allSettings {
		if !p.flags.Changed(s.flag) {
			continue
		}
		if slices.Contains(unset, s.key) {
			return nil, fmt.Errorf("--unset %s contradicts --%s", s.key, s.flag)
		}
		value, err := p.value(s.flag, s.kind)
		if err != nil {
			return nil, err
		}
		keys[s.key] = value
	}
	return keys, nil
}

// value returns what was typed for a flag, as the value of its key.
func (p *settingFlags) value(flag string, kind settingKind) (any, error) {
	for _, typed := range p.typed(flag) {
		if err := job.CheckText(typed); err != nil { // before JSON replaces its bytes
			return nil, fmt.Errorf("--%s %q: holds %w", flag, typed, err)
		}
	}
	switch kind {
	case list:
		return *p.lists[flag], nil
	case truth:
		return *p.truths[flag], nil
	case pairs:
		m := map[string]string{}
		for _, pair := range *p.lists[flag] {
			key, value, ok := strings.Cut(pair, "=")
			if !ok || key == "" {
				return nil, fmt.Errorf("--%s %q: want KEY=VALUE", flag, pair)
			}
			m[key] = value
		}
		return m, nil
	}
	return *p.texts[flag], nil
}

// typed returns the texts that were typed for a flag; none if it is no text.
func (p *settingFlags) typed(flag string) []string {
	if one := p.texts[flag]; one != nil {
		return []string{*one}
	}
	if many := p.lists[flag]; many != nil {
		return *many
	}
	return nil
}
