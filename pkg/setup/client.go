package setup

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// requestTimeout bounds each request.
const requestTimeout = 30 * time.Second

// atOnce is how many requests run at the same time: enough to hide a slow round trip, and few enough for an API server
// that limits them.
const atOnce = 8

// manifestResources has the API's resource for each kind in the manifests. Every version of Kubernetes that hodei runs
// on has them all, so no server is asked for them.
var manifestResources = map[string]schema.GroupVersionResource{
	"Namespace":      {Version: "v1", Resource: "namespaces"},
	"ServiceAccount": {Version: "v1", Resource: "serviceaccounts"},
	"ResourceQuota":  {Version: "v1", Resource: "resourcequotas"},
	"LimitRange":     {Version: "v1", Resource: "limitranges"},
	"Role":           {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"},
	"RoleBinding":    {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"},
	"ClusterRole":    {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"},
	"NetworkPolicy":  {Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
}

// Client reads and writes the objects of the manifests in one cluster. It is an ordinary client too. Its methods may be
// called at the same time.
type Client struct {
	clientset.Interface
	dynamic  dynamic.Interface
	metadata metadata.Interface
}

// NewClient returns a client of config's cluster. It asks the cluster for its version first; if that fails, the error
// has the hint of [kubernetes.Explain].
func NewClient(ctx context.Context, config *rest.Config) (*Client, error) {
	config = rest.CopyConfig(config)
	// An install asks for 58 rights and makes some sixty requests more. With client-go's default of 5 a second that
	// would take 20 s.
	config.QPS, config.Burst = 100, 200
	config.Timeout = requestTimeout
	config.WarningHandlerWithContext = warningsOfRequest{}
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	// If the cluster is away, one request says so once. The many requests at the same time would each say so.
	if err := client.RESTClient().Get().AbsPath("/version").Do(ctx).Error(); err != nil {
		return nil, kubernetes.Explain(err)
	}
	c := &Client{Interface: client}
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.metadata, err = metadata.NewForConfig(config); err != nil {
		return nil, err
	}
	return c, nil
}

// warningsKey is the key of a *[]string in a request's context. The API server's warnings about that request are added
// to it. Warnings about other requests are dropped: they are about deprecated kinds, which the caller can't change.
type warningsKey struct{}

type warningsOfRequest struct{}

func (warningsOfRequest) HandleWarningHeaderWithContext(ctx context.Context, _ int, _, text string) {
	if warned, ok := ctx.Value(warningsKey{}).(*[]string); ok {
		*warned = append(*warned, text)
	}
}

// in returns the client for objects of this kind and namespace.
func (c *Client) in(object *unstructured.Unstructured) dynamic.ResourceInterface {
	all := c.dynamic.Resource(manifestResources[object.GetKind()])
	if namespace := object.GetNamespace(); namespace != "" {
		return all.Namespace(namespace)
	}
	return all
}

// get reads an object of the manifests as it is in the cluster.
func (c *Client) get(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return c.in(object).Get(ctx, object.GetName(), metav1.GetOptions{})
}

type applyOptions struct {
	dryRun bool
	force  bool // take fields from other managers
}

// apply has the API server merge object into the live one, with the field manager hodei, and returns the result.
func (c *Client) apply(ctx context.Context, object *unstructured.Unstructured, o applyOptions) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	options := metav1.PatchOptions{FieldManager: FieldManager, Force: &o.force, DryRun: dryRunAll(o.dryRun)}
	return c.in(object).Patch(ctx, object.GetName(), types.ApplyPatchType, data, options)
}

// delete deletes object. If another object has its name by now, that one stays.
func (c *Client) delete(ctx context.Context, object *unstructured.Unstructured) error {
	uid := object.GetUID()
	return c.in(object).Delete(ctx, object.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
}

func dryRunAll(dryRun bool) []string {
	if dryRun {
		return []string{metav1.DryRunAll}
	}
	return nil
}

// describe names an object in a message: role x in namespace y.
func describe(object *unstructured.Unstructured) string {
	text := strings.ToLower(object.GetKind()) + " " + object.GetName()
	if namespace := object.GetNamespace(); namespace != "" {
		text += " in namespace " + namespace
	}
	return text
}

// inParallel calls do with 0 to n-1, atOnce of them at the same time, and waits for all. It returns the first error.
func inParallel(n int, do func(i int) error) error {
	var work errgroup.Group
	work.SetLimit(atOnce)
	for i := range n {
		work.Go(func() error { return do(i) })
	}
	return work.Wait()
}
