package run

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// spec makes a job of the flags, with the names of the variables that were to be taken from here and that lookupEnv
// does not find. Defaults that may be the provider's are left out.
func (f *typed) spec(cmd *cobra.Command, command []string, lookupEnv func(string) (string, bool)) (*job.Spec, []string, error) {
	spec := &job.Spec{
		Name: f.name, Image: f.image, Command: command, User: f.user, Workdir: f.workdir,
		Timeout: f.timeout, Grace: f.grace, Linger: f.linger,
		Retries: f.retries, GPU: f.gpu, MergeOutput: f.mergeOutput,
		Stdin: f.stdin, TTY: f.tty, LogOverflow: f.logOverflow, ContainerLogs: f.containerLogs, Detached: f.detach,
	}
	var unset []string
	spec.Env, unset = variables(f.env, lookupEnv)
	if f.tty {
		spec.Env = withTerm(spec.Env, unset, lookupEnv)
	}
	for _, step := range []func(*cobra.Command, *job.Spec) error{f.setEnvFrom, f.setAmounts, f.setTimes, f.setFollowing} {
		if err := step(cmd, spec); err != nil {
			return nil, nil, err
		}
	}
	return spec, unset, nil
}

// variables are those of -e, and the names of those that lookupEnv does not find. Of one name the last one counts,
// and the command finds no other.
func variables(flags []string, lookupEnv func(string) (string, bool)) (env []job.EnvVar, unset []string) {
	for _, v := range flags {
		name, value, given := strings.Cut(v, "=")
		if !given {
			if value, given = lookupEnv(name); !given {
				unset = append(unset, name)
				continue
			}
		}
		env = slices.DeleteFunc(env, func(v job.EnvVar) bool { return v.Name == name })
		env = append(env, job.EnvVar{Name: name, Value: value})
	}
	return env, unset
}

// withTerm adds the name of the terminal here to env, unless -e has said something of it.
func withTerm(env []job.EnvVar, unset []string, lookupEnv func(string) (string, bool)) []job.EnvVar {
	const name = "TERM"
	value, set := lookupEnv(name)
	if !set || slices.Contains(unset, name) || slices.ContainsFunc(env, func(v job.EnvVar) bool { return v.Name == name }) {
		return env
	}
	return append(env, job.EnvVar{Name: name, Value: value})
}

// setEnvFrom takes --env-from.
func (f *typed) setEnvFrom(cmd *cobra.Command, spec *job.Spec) error {
	for _, v := range f.envFrom {
		switch kind, name, _ := strings.Cut(v, "/"); kind {
		case "secret":
			spec.EnvFrom = append(spec.EnvFrom, job.EnvSource{Secret: name})
		case "configmap":
			spec.EnvFrom = append(spec.EnvFrom, job.EnvSource{ConfigMap: name})
		default:
			return command.Usagef(cmd, "--env-from %q: want secret/NAME or configmap/NAME", v)
		}
	}
	return nil
}

// setAmounts takes what the job gets of its node.
func (f *typed) setAmounts(cmd *cobra.Command, spec *job.Spec) error {
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
		if q.text == "" {
			continue
		}
		quantity, err := q.amount.Parse(q.text)
		if err != nil {
			return command.Usagef(cmd, "--%s %w", q.flag, err)
		}
		*q.to = &quantity
	}
	return nil
}

// setTimes takes the times whose zero is no choice, and those whose default may be the provider's.
func (f *typed) setTimes(cmd *cobra.Command, spec *job.Spec) error {
	for _, name := range []string{"grace", "linger"} {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "0s" {
			return command.Usagef(cmd, "--%s 0s: must be more than zero", name)
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
		to    *time.Duration
	}{{"start-timeout", f.startTimeout, &spec.StartTimeout}, {"ttl", f.ttl, &spec.TTL}} {
		if !cmd.Flags().Changed(d.flag) {
			continue
		}
		if d.value < time.Second { // a Job counts in seconds
			return command.Usagef(cmd, "--%s %s: want 1s or more", d.flag, d.value)
		}
		*d.to = d.value
	}
	return nil
}

// setFollowing has a job whose output nobody wants wait for nobody.
func (f *typed) setFollowing(cmd *cobra.Command, spec *job.Spec) error {
	switch {
	case f.follow:
		return nil
	case f.detach:
		return command.Usagef(cmd, "--detach waits for nothing: leave --follow=false out")
	}
	spec.Linger = cmp.Or(spec.Linger, time.Second)                // nobody is to come for the output
	spec.LogOverflow = cmp.Or(spec.LogOverflow, job.OverflowDrop) // so that a full spool waits for nobody
	return nil
}
