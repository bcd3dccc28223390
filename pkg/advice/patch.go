package advice

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Targets of a patch.
const (
	// CronJob is a CronJob whose Pods have a container "job".
	CronJob = "cronjob"
	// Template is a Job that was not made yet, or whatever else has its Pods'
	// template in spec.template, as a Deployment.
	Template = "template"
	// Provider is a provider of hodei's: what its jobs get that do not ask.
	Provider = "provider"
)

// Targets are all that a patch can be for.
var Targets = []string{CronJob, Template, Provider}

// container is the one in which a command runs.
const container = "job"

// Flags are those of hodei run, as a shell takes them. changedLimit tells that the job
// has a limit of memory of its own, which the request does not replace.
func (a *Advice) Flags(memoryLimit bool) string {
	var words []string
	if c := a.CPU; c != nil {
		words = append(words, "--cpu "+c.Request.String())
		if limit := c.flagLimit(); limit != nil && limit.Cmp(c.Request) != 0 {
			words = append(words, "--cpu-limit "+limit.String())
		}
	}
	if m := a.Memory; m != nil {
		words = append(words, "--memory "+m.Request.String())
		if memoryLimit {
			words = append(words, "--memory-limit "+m.Limit.String())
		}
	}
	return strings.Join(words, " ")
}

// flagLimit is the limit to name beside a request of hodei's.
func (r *Resource) flagLimit() *resource.Quantity {
	if r.Limit != nil {
		return r.Limit
	}
	return r.Room
}

// Patch is the advice for a target: a strategic merge patch for a cluster's object,
// and the keys to set for a provider. The error is that of a target that is none.
func (a *Advice) Patch(target string) (map[string]any, error) {
	requests, limits := map[string]any{}, map[string]any{}
	settings := map[string]any{}
	if c := a.CPU; c != nil {
		requests["cpu"], settings["cpu"] = c.Request.String(), c.Request.String()
		if c.Limit != nil {
			limits["cpu"] = c.Limit.String()
		}
		if limit := c.flagLimit(); limit != nil {
			settings["cpu_limit"] = limit.String()
		}
	}
	if m := a.Memory; m != nil {
		requests["memory"], limits["memory"] = m.Request.String(), m.Limit.String()
		settings["memory"], settings["memory_limit"] = m.Request.String(), m.Limit.String()
	}
	resources := map[string]any{"requests": requests}
	if len(limits) > 0 {
		resources["limits"] = limits
	}
	template := map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []any{map[string]any{"name": container, "resources": resources}}}}}}
	switch target {
	case Provider:
		return settings, nil
	case Template:
		return template, nil
	case CronJob:
		return map[string]any{"spec": map[string]any{"jobTemplate": template}}, nil
	}
	return nil, fmt.Errorf("no patch for %q: want %s", target, strings.Join(Targets, ", "))
}
