package command

import (
	"slices"
	"strings"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// Variables returns the variables of env with those of -e, NAME=VALUE or NAME, and the names of those that lookupEnv does
// not find. Of one name the last one counts, and the command finds no other.
func Variables(env []job.EnvVar, flags []string, lookupEnv func(string) (string, bool)) (all []job.EnvVar, unset []string) {
	all = slices.Clone(env)
	for _, v := range flags {
		name, value, given := strings.Cut(v, "=")
		if !given {
			value, given = lookupEnv(name)
		}
		all = slices.DeleteFunc(all, func(v job.EnvVar) bool { return v.Name == name })
		if given {
			all = append(all, job.EnvVar{Name: name, Value: value})
		} else {
			unset = append(unset, name)
		}
	}
	return all, unset
}

// WithTerm adds the name of the terminal here to env, unless -e has said something of it.
func WithTerm(env []job.EnvVar, unset []string, lookupEnv func(string) (string, bool)) []job.EnvVar {
	const name = "TERM"
	value, set := lookupEnv(name)
	if !set || slices.Contains(unset, name) || slices.ContainsFunc(env, func(v job.EnvVar) bool { return v.Name == name }) {
		return env
	}
	return append(env, job.EnvVar{Name: name, Value: value})
}
