package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

// TestNetworkPolicy: where policies are enforced, a worker reaches DNS and the
// coordinator, and no other Pod, no metadata server, no API server and no kubelet. A
// Pod to which no policy applies reaches them all, so that each refusal could fail.
func TestNetworkPolicy(t *testing.T) {
	t.Parallel()
	needsImages(t)
	ownCluster(t) // whose enforcing is known, and whose node is given another address
	namespace := newNamespace(t)
	coordinator := map[string]string{"app.kubernetes.io/component": "coordinator"}
	listen := func(ports ...int) string {
		var script strings.Builder
		for _, port := range ports {
			fmt.Fprintf(&script, "nc -ll -p %d -e true & ", port)
		}
		return script.String() + "wait"
	}
	system := listener(t, "hodei-system", coordinator, listen(50051, 50052))
	other := listener(t, "hodei-system", nil, listen(50051))
	impostor := listener(t, namespace, coordinator, listen(50051, 8080))
	metadata(t, namespace)
	worker := jobName(t)
	s := start(t, "run", "--name", worker, "--image", busybox, "--grace=1s", "--", "sh", "-c",
		"nc -ll -p 8080 -e true & nc -ll -p 50051 -e true & until "+connects("127.0.0.1", "8080")+"; do :; done; echo listens >&2; wait")
	s.await(t, "listens")
	workerIP := pod(t, worker, func(p *corev1.Pod) bool { return p.Status.PodIP != "" }).Status.PodIP
	nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	service, err := client.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}

	// What a worker may not reach, and what it may.
	refused := map[string][2]string{
		"another worker":                  {workerIP, "8080"},
		"a worker on port 50051":          {workerIP, "50051"},
		"a Pod":                           {impostor, "8080"},
		"a coordinator elsewhere":         {impostor, "50051"},
		"a Pod beside the coordinator":    {other, "50051"},
		"another port of the coordinator": {system, "50052"},
		"the metadata address":            {metadataAddress, metadataPort},
		"the API server by its Service":   {service.Spec.ClusterIP, "443"},
		"the API server by its address":   {server.Hostname(), server.Port()},
		"the kubelet":                     {nodes.Items[0].Status.Addresses[0].Address, "10250"},
		"another port of the DNS server":  {dnsAddress(t), "8080"}, // CoreDNS' health
	}
	allowed := map[string][2]string{
		"the coordinator": {system, "50051"},
		"DNS by TCP":      {dnsAddress(t), "53"},
	}
	all := maps.Clone(refused)
	maps.Copy(all, allowed)
	script := reachScript(all)

	var wantControl, wantWorker []string
	for name := range all {
		reached, may := name+": reached", name+": reached"
		if _, ok := refused[name]; ok {
			may = name + ": refused"
		}
		if strings.HasPrefix(name, "another worker") || strings.HasPrefix(name, "a worker") {
			reached = name + ": refused" // by its own policy, whoever comes
		}
		wantControl, wantWorker = append(wantControl, reached), append(wantWorker, may)
	}
	// Test/cluster's enforcing, like some others', begins when it hears of the Pod's
	// address, about a second after the command's start.
	enforced := "i=0; while [ $i -lt 100 ] && " + connects(server.Hostname(), server.Port()) +
		"; do sleep 0.1; i=$((i+1)); done; echo $i tries >&2; "
	r := hodei(t, "run", "-q", "--name", jobName(t), "--image", busybox, "--", "sh", "-c", enforced+script)
	compareLines(t, "a worker", r.stdout, append(wantWorker, "DNS by UDP: reached"))
	t.Logf("enforced after %s", strings.TrimSpace(r.stderr))
	compareLines(t, "a Pod without a policy", oneShot(t, namespace, script), append(wantControl, "DNS by UDP: reached"))

	s.interrupt(t)
	if r := s.end(t); r.code != 130 {
		t.Errorf("%+v", r)
	}
}

// connects is a shell command that fails where nothing answers.
func connects(address, port string) string {
	return "nc -w 3 " + address + " " + port + " -e true 2>/dev/null"
}

// reachScript tries all addresses at once and says which answer.
func reachScript(targets map[string][2]string) string {
	var script strings.Builder
	for name, at := range targets {
		fmt.Fprintf(&script, "(%s && echo '%s: reached' || echo '%s: refused') & ", connects(at[0], at[1]), name, name)
	}
	script.WriteString("(nslookup kubernetes.default.svc.cluster.local >/dev/null 2>&1 && echo 'DNS by UDP: reached' || echo 'DNS by " +
		"UDP: refused') & wait")
	return script.String()
}

func compareLines(t *testing.T, who, got string, want []string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(got), "\n")
	slices.Sort(lines)
	slices.Sort(want)
	if !slices.Equal(lines, want) {
		t.Errorf("%s:\ngot\n%s\nwant\n%s", who, strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// A metadata server, on a port that nothing else of a node has.
const metadataAddress, metadataPort = "169.254.169.254", "8169"

// metadata has the node answer at the address of a cloud's metadata server, for the
// time of the test.
func metadata(t *testing.T, namespace string) {
	t.Helper()
	cluster(t, "shell", "node1", "ip", "addr", "replace", metadataAddress+"/32", "dev", "lo")
	t.Cleanup(func() { cluster(t, "shell", "node1", "ip", "addr", "del", metadataAddress+"/32", "dev", "lo") })
	listenerWith(t, namespace, nil, "nc -ll -p "+metadataPort+" -e true", func(p *corev1.PodSpec) { p.HostNetwork = true })
}

func dnsAddress(t *testing.T) string {
	t.Helper()
	pods, err := client.CoreV1().Pods("kube-system").List(t.Context(), metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("the DNS server: %d Pods, %v", len(pods.Items), err)
	}
	return pods.Items[0].Status.PodIP
}

// listener runs a script in a Pod that is not a job's and returns the Pod's address.
func listener(t *testing.T, namespace string, labels map[string]string, script string) string {
	t.Helper()
	return listenerWith(t, namespace, labels, script, func(p *corev1.PodSpec) {
		uid, yes, no := int64(65532), true, false
		p.Containers[0].SecurityContext = &corev1.SecurityContext{
			RunAsUser: &uid, RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no,
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
	})
}

func listenerWith(t *testing.T, namespace string, labels map[string]string, script string, change func(*corev1.PodSpec)) string {
	t.Helper()
	name := "e2e-" + rand.String(8)
	none := int64(0)
	spec := corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &none,
		Containers: []corev1.Container{{Name: "c", Image: busybox, Command: []string{"sh", "-c", script}}}}
	change(&spec)
	_, err := client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.CoreV1().Pods(namespace).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	address := ""
	until(t, "Pod "+name, func(ctx context.Context) (bool, error) {
		p, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil || p.Status.Phase == corev1.PodPending {
			return false, err
		}
		address = p.Status.PodIP
		return true, nil
	})
	return address
}

// oneShot runs a script in a Pod that is not a job's and returns what it printed.
func oneShot(t *testing.T, namespace, script string) string {
	t.Helper()
	name := "e2e-" + rand.String(8)
	p, err := client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever,
			Containers: []corev1.Container{{Name: "c", Image: busybox, Command: []string{"sh", "-c", script}}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the end of Pod "+name, func(ctx context.Context) (bool, error) {
		p, err = client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		return err == nil && (p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed), err
	})
	return logs(t, p, "c")
}
