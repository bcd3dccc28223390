package deploy

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// privateRanges are what the policy of NetworkInternet keeps workers from and that
// of NetworkPrivate does not: RFC 1918, RFC 6598 (Pods and nodes of some clouds)
// and RFC 4193. Each stands for the metadata servers inside it, which stay shut.
var privateRanges = map[string][]any{
	"10.0.0.0/8":     nil,
	"172.16.0.0/12":  nil,
	"192.168.0.0/16": nil,
	"100.64.0.0/10":  {"100.100.100.200/32"},                    // Alibaba
	"fc00::/7":       {"fd00:ec2::254/128", "fd20:ce::254/128"}, // AWS, Google
}

// allowPrivate opens private addresses in the policy's rules.
func allowPrivate(policy *unstructured.Unstructured) error {
	egress, _, err := unstructured.NestedSlice(policy.Object, "spec", "egress")
	if err != nil {
		return err
	}
	opened := 0
	for _, rule := range egress {
		to, _, err := unstructured.NestedSlice(rule.(map[string]any), "to")
		if err != nil {
			return err
		}
		for _, peer := range to {
			block, ok := peer.(map[string]any)["ipBlock"].(map[string]any)
			if !ok {
				continue
			}
			except, _ := block["except"].([]any)
			var kept []any
			for _, cidr := range except {
				metadata, private := privateRanges[cidr.(string)]
				if !private {
					kept = append(kept, cidr)
					continue
				}
				kept = append(kept, metadata...)
				opened++
			}
			if len(except) > 0 {
				block["except"] = kept
			}
		}
		if err := unstructured.SetNestedSlice(rule.(map[string]any), to, "to"); err != nil {
			return err
		}
	}
	if opened != len(privateRanges) { // the file has changed, and this has not
		return fmt.Errorf("network policy %s leaves out %d of the %d private ranges", policy.GetName(), opened, len(privateRanges))
	}
	return unstructured.SetNestedSlice(policy.Object, egress, "spec", "egress")
}
