// Package deploy holds what hodei install puts into a cluster: the manifests of
// deploy/kubernetes, as they are. It knows no cluster.
package deploy

import _ "embed"

// Manifests are YAML, in the order in which they have to be applied: namespaces
// come before what is in them.
var Manifests = []string{rbac, networkPolicy}

//go:embed kubernetes/rbac.yaml
var rbac string

//go:embed kubernetes/network-policy.yaml
var networkPolicy string

// The names that the manifests give.
const (
	SystemNamespace  = "hodei-system"
	WorkersNamespace = "hodei-jobs-workers"
)
