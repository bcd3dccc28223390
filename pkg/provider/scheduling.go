package provider

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func checkTolerations(tolerations []corev1.Toleration) error {
	for i, t := range tolerations {
		path := fmt.Sprintf("tolerations[%d]", i)
		exists := t.Operator == corev1.TolerationOpExists
		switch {
		case t.Key == "" && !exists:
			return fmt.Errorf(`%s.key: "": want a taint's key, or operator: Exists for every taint`, path)
		case t.Key != "" && !isKey(t.Key):
			return fmt.Errorf("%s.key: %q: want a taint's key, such as example.com/name", path, t.Key)
		case exists && t.Value != "":
			return fmt.Errorf("%s.value: %q: must be empty where operator is Exists", path, t.Value)
		case len(validation.IsValidLabelValue(t.Value)) > 0:
			return fmt.Errorf("%s.value: %q: want at most 63 letters, digits, dashes, underscores and dots", path, t.Value)
		case t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute:
			return fmt.Errorf("%s.effect: %q: want NoExecute where tolerationSeconds is given", path, t.Effect)
		}
	}
	return nil
}

func checkSpread(constraints []corev1.TopologySpreadConstraint) error {
	for i, c := range constraints {
		path := fmt.Sprintf("topology_spread[%d]", i)
		switch {
		case c.MaxSkew < 1:
			return fmt.Errorf("%s.maxSkew: %d: must be more than zero", path, c.MaxSkew)
		case !isKey(c.TopologyKey):
			return fmt.Errorf("%s.topologyKey: %q: want a label's key of nodes, such as %s", path, c.TopologyKey, corev1.LabelTopologyZone)
		case c.WhenUnsatisfiable == "":
			return fmt.Errorf(`%s.whenUnsatisfiable: "": want DoNotSchedule or ScheduleAnyway`, path)
		case c.MinDomains != nil && (*c.MinDomains < 1 || c.WhenUnsatisfiable != corev1.DoNotSchedule):
			return fmt.Errorf("%s.minDomains: %d: want 1 or more, and whenUnsatisfiable: DoNotSchedule", path, *c.MinDomains)
		case c.LabelSelector == nil: // Kubernetes takes it for "no Pod", and so for no constraint
			return fmt.Errorf("%s.labelSelector: must be given; app.kubernetes.io/name: hodei-worker is every job", path)
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
			return fmt.Errorf("%s: must be given", key)
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
			return fmt.Errorf("%s.key: %q: want %s", key, r.Key, metav1.ObjectNameField)
		}
		if err := checkNodeRequirement(key, r); err != nil {
			return err
		}
	}
	return nil
}

func checkNodeRequirement(path string, r corev1.NodeSelectorRequirement) error {
	if !isKey(r.Key) {
		return fmt.Errorf("%s.key: %q: want a label's key of nodes", path, r.Key)
	}
	switch r.Operator {
	case "":
		return fmt.Errorf(`%s.operator: "": want %s`, path, oneOf(nodeOperators))
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(r.Values) == 0 {
			return fmt.Errorf("%s.values: must be given where operator is %s", path, r.Operator)
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(r.Values) > 0 {
			return fmt.Errorf("%s.values: %q: must be empty where operator is %s", path, r.Values, r.Operator)
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(r.Values) != 1 || !isNumber(r.Values[0]) {
			return fmt.Errorf("%s.values: %q: want one whole number, as a text, where operator is %s", path, r.Values, r.Operator)
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
		return fmt.Errorf("%s.topologyKey: %q: want a label's key of nodes, such as %s", path, term.TopologyKey, corev1.LabelHostname)
	}
	if err := checkLabelSelector(path+".labelSelector", term.LabelSelector); err != nil {
		return err
	}
	return checkLabelSelector(path+".namespaceSelector", term.NamespaceSelector)
}

func checkWeight(path string, weight int32) error {
	if weight < 1 || weight > 100 {
		return fmt.Errorf("%s.weight: %d: want 1 to 100", path, weight)
	}
	return nil
}

func checkLabelSelector(path string, s *metav1.LabelSelector) error {
	errs := metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, field.NewPath(path))
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s", errs[0].Field, errs[0].ErrorBody())
}
