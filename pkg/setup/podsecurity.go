package setup

import (
	"fmt"
	"strings"

	"github.com/hodei-jobs/hodei/deploy"
)

// PodSecurityChange is a namespace that hodei did not make and that would begin to enforce a Pod Security standard.
// Pods in it that don't meet the standard would go on running, but could not be created again.
type PodSecurityChange struct {
	Namespace string
	// Profile is the standard: one of deploy's profiles.
	Profile string
	// Unmet is what the API server says about Pods that don't meet it.
	Unmet []string
}

// PodSecurity returns the namespaces in which the plan changes the standard for other people's Pods.
func (p *Plan) PodSecurity() []PodSecurityChange {
	enforce := deploy.PodSecurityLabels[0]
	var changes []PodSecurityChange
	for _, step := range p.Steps {
		if step.Live == nil || step.Object.GetKind() != "Namespace" || madeByHodei(step.Live) {
			continue
		}
		profile := step.Object.GetLabels()[enforce]
		if step.Live.GetLabels()[enforce] != profile {
			changes = append(changes, PodSecurityChange{step.Object.GetName(), profile, step.warned})
		}
	}
	return changes
}

// Err returns an error that names the Pods that would be refused; nil: none would.
func (c PodSecurityChange) Err() error {
	if len(c.Unmet) == 0 || c.Profile == deploy.ProfilePrivileged {
		return nil
	}
	return fmt.Errorf("namespace %s was there before hodei, and would begin to enforce Pod Security %q, which Pods in it do not meet: %s",
		c.Namespace, c.Profile, strings.Join(c.Unmet, "; "))
}

// Note says what the change means if no Pod of today would be refused.
func (c PodSecurityChange) Note() string {
	if c.Profile == deploy.ProfilePrivileged {
		return fmt.Sprintf("namespace %s was there before hodei: with it, Pod Security keeps no Pod out of it", c.Namespace)
	}
	return fmt.Sprintf("namespace %s was there before hodei: with it, everybody's Pods there have to meet Pod Security %q",
		c.Namespace, c.Profile)
}
