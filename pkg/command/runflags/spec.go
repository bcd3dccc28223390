package runflags

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// change makes those changes to spec that were typed. It leaves alone what no flag is about, and defaults that may be
// the provider's. unset are the variables that were to be taken from here and that lookupEnv does not find: spec has
// none of them afterwards.
func (f *Flags) change(spec *job.Spec, lookupEnv func(string) (string, bool)) (unset []string, err error) {
	for _, c := range []struct {
		flag string
		set  func()
	}{
		{"name", func() { spec.Name = f.name }},
		{"image", func() { spec.Image = f.image }},
		{"user", func() { spec.User = f.user }},
		{"workdir", func() { spec.Workdir = f.workdir }},
		{"timeout", func() { spec.Timeout = f.timeout }},
		{"grace", func() { spec.Grace = f.grace }},
		{"linger", func() { spec.Linger = f.linger }},
		{"retries", func() { spec.Retries = f.retries }},
		{"gpu", func() { spec.GPU = f.gpu }},
		{"stdin", func() { spec.Stdin = f.stdin }},
		{"tty", func() { spec.TTY = f.tty }},
		{"exec", func() { spec.Exec = f.exec }},
		{"merge-output", func() { spec.MergeOutput = f.mergeOutput }},
		{"log-overflow", func() { spec.LogOverflow = f.logOverflow }},
		{"container-logs", func() { spec.ContainerLogs = f.containerLogs }},
	} {
		if f.changed(c.flag) {
			c.set()
		}
	}
	spec.Detached = f.detach
	spec.Env, unset = command.Variables(spec.Env, f.variables, lookupEnv)
	if f.tty {
		spec.Env = command.WithTerm(spec.Env, unset, lookupEnv)
	}
	for _, step := range []func(*job.Spec) error{f.setEnvFrom, f.setAmounts, f.setTimes, f.setFollowing} {
		if err := step(spec); err != nil {
			return nil, err
		}
	}
	return unset, nil
}

// changed reports whether a flag was typed.
func (f *Flags) changed(flag string) bool { return f.cmd.Flags().Changed(flag) }

// Variables returns the names of the variables that -e is about.
func (f *Flags) Variables() []string {
	var names []string
	for _, v := range f.variables {
		name, _, _ := strings.Cut(v, "=")
		names = append(names, name)
	}
	return names
}

// setEnvFrom takes --env-from.
func (f *Flags) setEnvFrom(spec *job.Spec) error {
	for _, v := range f.envFrom {
		var from job.EnvSource
		switch kind, name, _ := strings.Cut(v, "/"); kind {
		case "secret":
			from.Secret = name
		case "configmap":
			from.ConfigMap = name
		default:
			return command.Usagef(f.cmd, "--env-from %q: want secret/NAME or configmap/NAME", v)
		}
		// Of one variable the last source counts.
		spec.EnvFrom = append(slices.DeleteFunc(slices.Clone(spec.EnvFrom), func(s job.EnvSource) bool { return s == from }), from)
	}
	return nil
}

// setAmounts takes what the job gets of its node.
func (f *Flags) setAmounts(spec *job.Spec) error {
	for _, q := range []struct {
		flag, text string
		amount     job.Amount
		to         **resource.Quantity
	}{
		{"cpu", f.cpu, job.CPUs, &spec.CPU},
		{"cpu-limit", f.cpuLimit, job.CPUs, &spec.CPULimit},
		{"memory", f.memory, job.Memory, &spec.Memory},
		{"memory-limit", f.memoryLimit, job.Memory, &spec.MemoryLimit},
		{"ephemeral-storage", f.ephemeralStorage, job.Disk, &spec.EphemeralStorage},
		{"log-spool", f.logSpool, job.Spool, &spec.LogSpool},
	} {
		switch {
		case !f.changed(q.flag):
			continue
		case q.text == "": // the default
			*q.to = nil
			continue
		}
		quantity, err := q.amount.Parse(q.text)
		if err != nil {
			return command.Usagef(f.cmd, "--%s %w", q.flag, err)
		}
		*q.to = &quantity
	}
	return nil
}

// setTimes takes the times whose zero is no choice, and those whose default may be the provider's.
func (f *Flags) setTimes(spec *job.Spec) error {
	for _, name := range []string{"grace", "linger"} {
		if f.changed(name) && f.cmd.Flags().Lookup(name).Value.String() == "0s" {
			return command.Usagef(f.cmd, "--%s 0s: must be more than zero", name)
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
		to    *time.Duration
	}{{"start-timeout", f.startTimeout, &spec.StartTimeout}, {"ttl", f.ttl, &spec.TTL}} {
		if !f.changed(d.flag) {
			continue
		}
		if d.value < time.Second { // a Job counts in seconds
			return command.Usagef(f.cmd, "--%s %s: want 1s or more", d.flag, d.value)
		}
		*d.to = d.value
	}
	return nil
}

// setFollowing has a job whose output nobody wants wait for nobody.
func (f *Flags) setFollowing(spec *job.Spec) error {
	switch {
	case f.follow:
		return nil
	case f.detach:
		return command.Usagef(f.cmd, "--detach waits for nothing: leave --follow=false out")
	}
	spec.Linger = cmp.Or(spec.Linger, job.UnfollowedLinger)       // nobody is to come for the output
	spec.LogOverflow = cmp.Or(spec.LogOverflow, job.OverflowDrop) // so that a full spool waits for nobody
	return nil
}
