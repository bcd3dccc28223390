package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Right is one resource that a role grants verbs on.
type Right struct {
	// Role is its name, and Kind is Role or ClusterRole.
	Role string `json:"role"`
	Kind string `json:"kind"`
	// Namespace in which it holds; "" for a ClusterRole, which holds where it is bound.
	Namespace string `json:"namespace,omitempty"`
	// Subject is the service account that has it, as NAMESPACE/NAME; "" for a role that
	// the manifests bind to nobody.
	Subject string `json:"subject,omitempty"`
	// Group of the resource; "" is the core's.
	Group string `json:"group"`
	// Resource, with its subresource: pods/log.
	Resource string   `json:"resource"`
	Verbs    []string `json:"verbs"`
	// Why is one sentence or more, on one line.
	Why string `json:"why"`
}

// document is an object of the manifest. Its rules are nodes because those keep the
// comments, which no decoder of Kubernetes does.
type document struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Rules    []yaml.Node
	RoleRef  struct{ Kind, Name string } `yaml:"roleRef"`
	Subjects []struct{ Name, Namespace string }
}

// Rights returns what the manifests' roles grant, resource by resource, and why: the
// comment above each rule. A rule that has none is an error.
func Rights(o Options) ([]Right, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	return rights(rbac, o.WorkersNamespace)
}

func rights(manifest []byte, workersNamespace string) ([]Right, error) {
	moved := func(namespace string) string {
		if namespace == WorkersNamespace {
			return workersNamespace
		}
		return namespace
	}
	var all []Right
	subjects := map[string]string{} // by kind and name of the role
	for d := yaml.NewDecoder(bytes.NewReader(manifest)); ; {
		var object document
		err := d.Decode(&object)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		for _, s := range object.Subjects {
			subjects[object.RoleRef.Kind+"/"+object.RoleRef.Name] = moved(s.Namespace) + "/" + s.Name
		}
		for _, node := range object.Rules {
			granted, err := ruleRights(&node)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", object.Kind, object.Metadata.Name, err)
			}
			for _, right := range granted {
				right.Kind, right.Role, right.Namespace = object.Kind, object.Metadata.Name, moved(object.Metadata.Namespace)
				all = append(all, right)
			}
		}
	}
	for i := range all {
		all[i].Subject = subjects[all[i].Kind+"/"+all[i].Role]
	}
	return all, nil
}

// ruleRights takes a rule apart, by group and resource.
func ruleRights(node *yaml.Node) ([]Right, error) {
	var rule struct {
		APIGroups []string `yaml:"apiGroups"`
		Resources []string
		Verbs     []string
	}
	if err := node.Decode(&rule); err != nil {
		return nil, err
	}
	why := reason(node.HeadComment)
	if why == "" {
		return nil, fmt.Errorf("line %d: no comment above the rule gives its reason", node.Line)
	}
	var granted []Right
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			granted = append(granted, Right{Group: group, Resource: resource, Verbs: rule.Verbs, Why: why})
		}
	}
	return granted, nil
}

// reason makes one line of a comment.
func reason(comment string) string {
	var words []string
	for line := range strings.Lines(comment) {
		words = append(words, strings.Fields(strings.TrimLeft(line, "#"))...)
	}
	return strings.Join(words, " ")
}
