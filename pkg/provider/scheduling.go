package provider

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/hodei-jobs/hodei/pkg/job"
)

func checkTolerations(tolerations []corev1.Toleration) error {
	for i, t := range tolerations {
		path := fmt.Sprintf("tolerations[%d]", i)
		exists := t.Operator == corev1.TolerationOpExists
		switch {
		case t.Key == "" && !exists:
			return job.InvalidField(path+".key", "", "want a taint's key, or operator: Exists for every taint")
		case t.Key != "" && !isKey(t.Key):
			return job.InvalidField(path+".key", t.Key, "want a taint's key, such as example.com/name")
		case exists && t.Value != "":
			return job.InvalidField(path+".value", t.Value, "must be empty where operator is Exists")
		case len(validation.IsValidLabelValue(t.Value)) > 0:
			return job.InvalidField(path+".value", t.Value, "want at most 63 letters, digits, dashes, underscores and dots")
		case t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute:
			return job.InvalidField(path+".effect", t.Effect, "want NoExecute where tolerationSeconds is given")
		}
	}
	return nil
}

func checkSpread(constraints []corev1.TopologySpreadConstraint) error {
	for i, c := range constraints {
		path := fmt.Sprintf("topology_spread[%d]", i)
		switch {
		case c.MaxSkew < 1:
			return job.InvalidField(path+".maxSkew", c.MaxSkew, "must be more than zero")
		case !isKey(c.TopologyKey):
			return job.InvalidField(path+".topologyKey", c.TopologyKey, "want a label's key of nodes, such as %s", corev1.LabelTopologyZone)
		case c.WhenUnsatisfiable == "":
			return job.InvalidField(path+".whenUnsatisfiable", "", "want DoNotSchedule or ScheduleAnyway")
		case c.MinDomains != nil && (*c.MinDomains < 1 || c.WhenUnsatisfiable != corev1.DoNotSchedule):
			return job.InvalidField(path+".minDomains", *c.MinDomains, "want 1 or more, and whenUnsatisfiable: DoNotSchedule")
		case c.LabelSelector == nil: // Kubernetes takes it for "no Pod", and so for no constraint
			return job.WrongField(path+".labelSelector", "must be given; app.kubernetes.io/name: hodei-worker is every job")
		}
		if err := checkLabelSelector(path+".labelSelector", c.LabelSelector); err != nil {
			return err
		}
	}
	return nil
}

func checkAffinity(a *corev1.Affinity) error {
	if a == nil {
		return nil
	}
	if err := checkNodeAffinity("affinity.nodeAffinity", a.NodeAffinity); err != nil {
		return err
	}
	if p := a.PodAffinity; p != nil {
		if err := checkPodTerms("affinity.podAffinity", p.RequiredDuringSchedulingIgnoredDuringExecution,
			p.PreferredDuringSchedulingIgnoredDuringExecution); err != nil {
			return err
		}
	}
	if p := a.PodAntiAffinity; p != nil {
		return checkPodTerms("affinity.podAntiAffinity", p.RequiredDuringSchedulingIgnoredDuringExecution,
			p.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return nil
}

const (
	required  = ".requiredDuringSchedulingIgnoredDuringExecution"
	preferred = ".preferredDuringSchedulingIgnoredDuringExecution"
)

func checkNodeAffinity(path string, a *corev1.NodeAffinity) error {
	if a == nil {
		return nil
	}
	if r := a.RequiredDuringSchedulingIgnoredDuringExecution; r != nil {
		key := path + required + ".nodeSelectorTerms"
		if len(r.NodeSelectorTerms) == 0 {
			return job.WrongField(key, "must be given")
		}
		for i, term := range r.NodeSelectorTerms {
			if err := checkNodeTerm(fmt.Sprintf("%s[%d]", key, i), term); err != nil {
				return err
			}
		}
	}
	for i, p := range a.PreferredDuringSchedulingIgnoredDuringExecution {
		key := fmt.Sprintf("%s%s[%d]", path, preferred, i)
		if err := checkWeight(key, p.Weight); err != nil {
			return err
		}
		if err := checkNodeTerm(key+".preference", p.Preference); err != nil {
			return err
		}
	}
	return nil
}

func checkNodeTerm(path string, term corev1.NodeSelectorTerm) error {
	for i, r := range term.MatchExpressions {
		if err := checkNodeRequirement(fmt.Sprintf("%s.matchExpressions[%d]", path, i), r); err != nil {
			return err
		}
	}
	for i, r := range term.MatchFields {
		key := fmt.Sprintf("%s.matchFields[%d]", path, i)
		if r.Key != metav1.ObjectNameField {
			return job.InvalidField(key+".key", r.Key, "want %s", metav1.ObjectNameField)
		}
		if err := checkNodeRequirement(key, r); err != nil {
			return err
		}
	}
	return nil
}

func checkNodeRequirement(path string, r corev1.NodeSelectorRequirement) error {
	if !isKey(r.Key) {
		return job.InvalidField(path+".key", r.Key, "want a label's key of nodes")
	}
	switch r.Operator {
	case "":
		return job.InvalidField(path+".operator", "", "want %s", oneOf(nodeOperators))
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			return job.WrongField(path+".values", "must be given where operator is %s", r.Operator)
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			return job.InvalidField(path+".values", r.Values, "must be empty where operator is %s", r.Operator)
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(r.Values) != 1 || !isNumber(r.Values[0]) {
			return job.InvalidField(path+".values", r.Values, "want one whole number, as a text, where operator is %s", r.Operator)
		}
	}
	return nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil
}

func checkPodTerms(path string, must []corev1.PodAffinityTerm, should []corev1.WeightedPodAffinityTerm) error {
	for i, term := range must {
		if err := checkPodTerm(fmt.Sprintf("%s%s[%d]", path, required, i), term); err != nil {
			return err
		}
	}
	for i, term := range should {
		key := fmt.Sprintf("%s%s[%d]", path, preferred, i)
		if err := checkWeight(key, term.Weight); err != nil {
			return err
		}
		if err := checkPodTerm(key+".podAffinityTerm", term.PodAffinityTerm); err != nil {
			return err
		}
	}
	return nil
}

func checkPodTerm(path string, term corev1.PodAffinityTerm) error {
	if !isKey(term.TopologyKey) {
		return job.InvalidField(path+".topologyKey", term.TopologyKey, "want a label's key of nodes, such as %s", corev1.LabelHostname)
	}
	if err := checkLabelSelector(path+".labelSelector", term.LabelSelector); err != nil {
		return err
	}
	return checkLabelSelector(path+".namespaceSelector", term.NamespaceSelector)
}

func checkWeight(path string, weight int32) error {
	if weight < 1 || weight > 100 {
		return job.InvalidField(path+".weight", weight, "want 1 to 100")
	}
	return nil
}

func checkLabelSelector(path string, s *metav1.LabelSelector) error {
	errs := metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, field.NewPath(path))
	if len(errs) == 0 {
		return nil
	}
	return job.WrongField(errs[0].Field, "%s", errs[0].ErrorBody())
}
