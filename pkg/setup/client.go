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

// requestTimeout bounds every single request.
const requestTimeout = 30 * time.Second

// atOnce is how many requests of one kind are under way together: enough to hide
// a slow round trip, few enough for an API server that counts them.
const atOnce = 8

// manifestResources tell where the API serves the kinds of the manifests, all of
// which every version of Kubernetes has that hodei runs on: none has to be asked.
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

// Client reads and writes what the manifests make in one cluster. It is an ordinary
// client too. Its methods may be called at the same time.
type Client struct {
	clientset.Interface
	dynamic  dynamic.Interface
	metadata metadata.Interface
}

// NewClient returns a client of the cluster to which config leads, which has answered.
// The error has the hint of [kubernetes.Explain].
func NewClient(ctx context.Context, config *rest.Config) (*Client, error) {
	config = rest.CopyConfig(config)
	// An install asks for 58 rights and makes some sixty requests more; client-go's
	// default of 5 a second would make them 20 s.
	config.QPS, config.Burst = 100, 200
	config.Timeout = requestTimeout
	config.WarningHandlerWithContext = warningsOfRequest{}
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	// One request tells whether it is there; of many at once each would say so.
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

// warningsKey is that of a *[]string in the context of a request, which gets the API
// server's warnings. Those of other requests are dropped: they tell of kinds that
// are on their way out, which is not the caller's to mend.
type warningsKey struct{}

type warningsOfRequest struct{}

func (warningsOfRequest) HandleWarningHeaderWithContext(ctx context.Context, _ int, _, text string) {
	if warned, ok := ctx.Value(warningsKey{}).(*[]string); ok {
		*warned = append(*warned, text)
	}
}

// in is where the API keeps objects like this one.
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

// apply has the API server merge object into what is there, as field manager
// hodei, and returns the result.
func (c *Client) apply(ctx context.Context, object *unstructured.Unstructured, o applyOptions) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	options := metav1.PatchOptions{FieldManager: FieldManager, Force: &o.force, DryRun: dryRunAll(o.dryRun)}
	return c.in(object).Patch(ctx, object.GetName(), types.ApplyPatchType, data, options)
}

// delete deletes this very object, and not another one of the same name.
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

// inParallel calls do with 0 to n-1, atOnce at a time. When all have returned, it returns
// the error that came first; nil: there was none.
func inParallel(n int, do func(i int) error) error {
	var work errgroup.Group
	work.SetLimit(atOnce)
	for i := range n {
		work.Go(func() error { return do(i) })
	}
	return work.Wait()
}
