package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// render returns the objects by kind and name, each of which Kubernetes knows.
func render(t *testing.T, o Options) map[string]*unstructured.Unstructured {
	t.Helper()
	list, err := Objects(o)
	if err != nil {
		t.Fatal(err)
	}
	return byName(t, list)
}

func byName(t *testing.T, list []*unstructured.Unstructured) map[string]*unstructured.Unstructured {
	t.Helper()
	named := map[string]*unstructured.Unstructured{}
	for _, object := range list {
		data, err := object.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := strict.Decode(data, nil, nil); err != nil {
			t.Fatalf("%v in:\n%s", err, data)
		}
		named[object.GetKind()+" "+object.GetName()] = object
	}
	return named
}

// Without a choice it is the files.
func TestDefaultsAreTheFiles(t *testing.T) {
	var want []*unstructured.Unstructured
	for _, manifest := range [][]byte{rbac, networkPolicy} {
		objects, err := decode(manifest)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, objects...)
	}
	for _, o := range []Options{{}, {WorkersNamespace: WorkersNamespace, Profile: ProfileRestricted, NetworkPolicy: NetworkInternet}} {
		got, err := Objects(o)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v differs from the files", o)
		}
	}
	if len(want) < 10 {
		t.Errorf("%d objects in the files", len(want))
	}
}

// The guide's option A is the same file.
func TestGuidesFile(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "k8s", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != string(rbac) {
		t.Error("k8s/rbac.yaml is not deploy/kubernetes/rbac.yaml")
	}
}

func TestKustomization(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil && os.Getenv("HODEI_K8S_TEST") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("no kubectl on PATH")
	}
	out, err := exec.CommandContext(t.Context(), kubectl, "kustomize", "kubernetes").Output()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := decode(out)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := byName(t, objects), render(t, Options{}); !reflect.DeepEqual(got, want) {
		t.Errorf("it renders %q, the files hold %q, or they differ inside", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

func TestWorkersNamespace(t *testing.T) {
	objects := render(t, Options{WorkersNamespace: "build"})
	for name, object := range objects {
		data, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), `"hodei-jobs-workers"`) {
			t.Errorf("%s still speaks of hodei-jobs-workers: %s", name, data)
		}
	}
	if objects["Namespace build"] == nil || objects["ServiceAccount hodei-jobs-worker"].GetNamespace() != "build" {
		t.Errorf("objects %q", slices.Sorted(maps.Keys(objects)))
	}
	if n := objects["ServiceAccount hodei-control-plane"].GetNamespace(); n != SystemNamespace {
		t.Errorf("the coordinator's account is in %s", n)
	}
}

func TestProfile(t *testing.T) {
	for _, profile := range []string{ProfileBaseline, ProfilePrivileged} {
		objects := render(t, Options{Profile: profile})
		for _, label := range PodSecurityLabels {
			if got := objects["Namespace hodei-jobs-workers"].GetLabels()[label]; got != profile {
				t.Errorf("workers: %s=%s, want %s", label, got, profile)
			}
			if got := objects["Namespace hodei-system"].GetLabels()[label]; got != ProfileRestricted {
				t.Errorf("the coordinator: %s=%s", label, got)
			}
		}
	}
}

func TestNetworkPolicy(t *testing.T) {
	if policy := render(t, Options{NetworkPolicy: NetworkNone})["NetworkPolicy hodei-jobs-worker"]; policy != nil {
		t.Error("none has a policy")
	}
	// Metadata servers, and what is theirs alone.
	never := []string{"169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "100.100.100.200", "168.63.129.16"}
	private := []string{"10.96.0.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd12::1"}
	public := []string{"1.1.1.1", "172.32.0.1", "100.128.0.1", "168.63.129.17", "2001:db8::1"}
	for _, test := range []struct {
		choice              string
		reached, notReached []string
	}{
		{NetworkInternet, public, slices.Concat(private, never)},
		{NetworkPrivate, slices.Concat(public, private), never},
	} {
		t.Run(test.choice, func(t *testing.T) {
			object := render(t, Options{NetworkPolicy: test.choice})["NetworkPolicy hodei-jobs-worker"]
			data, err := object.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var policy networkingv1.NetworkPolicy
			if err := json.Unmarshal(data, &policy); err != nil {
				t.Fatal(err)
			}
			for _, address := range test.reached {
				if !reaches(&policy, address) {
					t.Errorf("%s can't be reached", address)
				}
			}
			for _, address := range test.notReached {
				if reaches(&policy, address) {
					t.Errorf("%s can be reached", address)
				}
			}
		})
	}
}

// DNS Pods answer at 53, and some, OpenShift's, at 5353 behind a Service; policies
// see the Pod's port. NodeLocal DNSCache is no Pod of the network.
func TestDNS(t *testing.T) {
	data, err := render(t, Options{})["NetworkPolicy hodei-jobs-worker"].MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var policy networkingv1.NetworkPolicy
	if err := json.Unmarshal(data, &policy); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, rule := range policy.Spec.Egress[:2] {
		for _, port := range rule.Ports {
			to := "Pods"
			if block := rule.To[0].IPBlock; block != nil {
				to = block.CIDR
			}
			got[to] += fmt.Sprintf(" %s/%s", *port.Protocol, port.Port)
		}
	}
	want := map[string]string{"Pods": " UDP/53 TCP/53 UDP/5353 TCP/5353", "169.254.20.10/32": " UDP/53 TCP/53"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// reaches tells whether a rule lets all ports of an address through.
func reaches(policy *networkingv1.NetworkPolicy, address string) bool {
	ip := netip.MustParseAddr(address)
	for _, rule := range policy.Spec.Egress {
		for _, to := range rule.To {
			if to.IPBlock == nil || len(rule.Ports) > 0 || !netip.MustParsePrefix(to.IPBlock.CIDR).Contains(ip) {
				continue
			}
			if !slices.ContainsFunc(to.IPBlock.Except, func(cidr string) bool { return netip.MustParsePrefix(cidr).Contains(ip) }) {
				return true
			}
		}
	}
	return false
}

// A policy whose ranges have changed is not silently half open.
func TestPrivateOfAnotherPolicy(t *testing.T) {
	objects, err := decode([]byte(strings.Replace(string(networkPolicy), "- 172.16.0.0/12", "- 172.0.0.0/8", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := allowPrivate(objects[0]); err == nil || !strings.Contains(err.Error(), "leaves out 4 of the 5 private ranges") {
		t.Errorf("error %v", err)
	}
}

func TestParseQuota(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{"cpu=20,memory=64Gi,pods=50", ""},
		{"cpu=500m", ""},
		{"cpu=0,pods=0", ""},
		{"memory=64m", "quota memory=64m: want 4Mi to 1Ei; did you mean 64Mi?"},
		{"disk=1", `quota of "disk=1": want KEY=QUANTITY with the keys cpu, memory, pods`},
		{"cpu=1,", `quota of "": want KEY=QUANTITY with the keys cpu, memory, pods`},
		{"cpu", "quota cpu has no quantity: want cpu=QUANTITY"},
		{"cpu=", "quota cpu has no quantity: want cpu=QUANTITY"},
		{"cpu=1,cpu=2", "quota cpu is given twice"},
		{"memory=lots", `quota memory="lots": want a quantity such as 64Gi`},
		{"cpu=-1", "quota cpu=-1: want 1m to 100M"},
		{"pods=1500m", "quota pods=1500m: want a whole number"},
	} {
		t.Run(test.text, func(t *testing.T) {
			_, err := ParseQuota(test.text)
			if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestQuotaObjects(t *testing.T) {
	for _, test := range []struct {
		quota   string
		request map[string]any // nil: no LimitRange
	}{
		{"pods=5", nil},
		{"cpu=4,pods=5", map[string]any{"cpu": "100m"}},
		{"cpu=4,memory=8Gi", map[string]any{"cpu": "100m", "memory": "128Mi"}},
	} {
		t.Run(test.quota, func(t *testing.T) {
			quota, err := ParseQuota(test.quota)
			if err != nil {
				t.Fatal(err)
			}
			objects := render(t, Options{Quota: quota, WorkersNamespace: "build"})
			var made corev1.ResourceQuota
			data, err := objects["ResourceQuota hodei-jobs"].MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(data, &made); err != nil {
				t.Fatal(err)
			}
			if len(made.Spec.Hard) != len(quota) || made.Namespace != "build" {
				t.Errorf("%s: %s", test.quota, data)
			}
			limits := objects["LimitRange hodei-jobs"]
			if (limits != nil) != (test.request != nil) {
				t.Fatalf("LimitRange: %v", limits)
			}
			if limits == nil {
				return
			}
			list, _, err := unstructured.NestedSlice(limits.Object, "spec", "limits")
			if err != nil || len(list) != 1 {
				t.Fatalf("limits %v: %v", list, err)
			}
			// A default limit would be the agent's too.
			if got := list[0].(map[string]any); !reflect.DeepEqual(got["defaultRequest"], test.request) || len(got) != 2 {
				t.Errorf("limits %v", got)
			}
		})
	}
}

func TestRefusedOptions(t *testing.T) {
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{WorkersNamespace: "Build"}, `workers' namespace "Build": `},
		{Options{WorkersNamespace: SystemNamespace}, `workers' namespace "hodei-system" is the coordinator's`},
		{Options{WorkersNamespace: "kube-system"},
			`workers' namespace "kube-system" is Kubernetes' own: its Pods would have to meet Pod Security "restricted"`},
		{Options{WorkersNamespace: "default"}, `workers' namespace "default" is Kubernetes' own`},
		{Options{Profile: "open"}, `profile "open": want restricted, baseline or privileged`},
		{Options{NetworkPolicy: "open"}, `network policy "open": want internet, private or none`},
	} {
		if _, err := Objects(test.options); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("error %v, want %q", err, test.want)
		}
	}
}
