package jobs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output/outputtest"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

func condition(t batchv1.JobConditionType) batchv1.JobStatus {
	return batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: t, Status: corev1.ConditionTrue}}}
}

func podWith(state corev1.ContainerState) *corev1.Pod {
	return &corev1.Pod{
		Spec: corev1.PodSpec{NodeName: "node1"},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: "agent", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			{Name: "job", State: state},
		}},
	}
}

func waiting(reason string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
}

func TestRow(t *testing.T) {
	now := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 7}}
	unstarted := func(agent int32, command corev1.ContainerState) *corev1.Pod {
		pod := podWith(command)
		pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: agent}}
		return pod
	}
	killed := &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "ContainerStatusUnknown"}
	evicted := unstarted(137, corev1.ContainerState{Terminated: killed})
	uncounted := &batchv1.UncountedTerminatedPods{Failed: []types.UID{"u"}}
	evicted.Status.Reason, evicted.Status.Message = "Evicted", `Usage of EmptyDir volume "hodei-start-timeout" exceeds the limit "1Mi".`
	for _, test := range []struct {
		name   string
		status batchv1.JobStatus
		pod    *corev1.Pod
		want   string // status, exit, attempts, node
	}{
		{"new", batchv1.JobStatus{}, nil, "Pending <none> 0 <none>"},
		{"starting", batchv1.JobStatus{Active: 1}, podWith(waiting("ContainerCreating")), "Pending <none> 1 node1"},
		{"no image", batchv1.JobStatus{Active: 1}, podWith(waiting("ImagePullBackOff")), "ImagePullBackOff <none> 1 node1"},
		{"running", batchv1.JobStatus{Active: 1}, podWith(running), "Running <none> 1 node1"},
		{"second attempt", batchv1.JobStatus{Active: 1, Failed: 1}, podWith(running), "Running <none> 2 node1"},
		{"agent lingers", batchv1.JobStatus{Active: 1}, podWith(ended), "Lingering 7 1 node1"},
		{"a container of others", batchv1.JobStatus{Active: 1}, heldBy("istio-proxy"), "HeldBy:istio-proxy 7 1 node1"},
		{"not yet counted", batchv1.JobStatus{UncountedTerminatedPods: uncounted}, endedWith("Error", 7), "Lingering 7 1 node1"},
		{"complete", condition(batchv1.JobComplete), endedWith("Completed", 0), "Complete 0 0 node1"},
		{"its timeout", condition(batchv1.JobFailed), endedWith("DeadlineExceeded", 143), "Failed 124 0 node1"},
		{"cancelled, and ended well", condition(batchv1.JobComplete), endedWith("Cancelled", 0), "Complete 130 0 node1"},
		{"failed, Pod gone", condition(batchv1.JobFailed), nil, "Failed <none> 0 <none>"},
		{"failed", condition(batchv1.JobFailed), endedWith("Error", 7), "Failed 7 0 node1"},
		{"start timed out", condition(batchv1.JobFailed), unstarted(92, ended), "StartTimeout <none> 0 node1"},
		{"start timed out, and evicted", condition(batchv1.JobFailed), evicted, "StartTimeout <none> 0 node1"},
		{"never started", condition(batchv1.JobFailed), unstarted(90, ended), "Failed <none> 0 node1"},
		{"suspended", condition(batchv1.JobSuspended), nil, "Suspended <none> 0 <none>"},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := &batchv1.Job{Status: test.status}
			j.Name, j.CreationTimestamp = "one", metav1.NewTime(now.Add(-90*time.Second))
			j.Annotations = map[string]string{"hodei.io/spec": `{"name":"one","command":["sh","-c","echo \u001b[2J it's"]}`}
			j.Spec.Template.Spec.Containers = []corev1.Container{{Name: "agent", Image: "worker:1"}, {Name: "job", Image: "app:1"}}
			cells := cellsOf(j, test.pod, now)
			if got := fmt.Sprint(cells["Status"], " ", cells["Exit"], " ", cells["Attempts"], " ", cells["Node"]); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			const want = `one 90s app:1 sh -c $'echo \x1b[2J it\'s'`
			if got := fmt.Sprint(cells["Name"], " ", cells["Age"], " ", cells["Image"], " ", cells["Command"]); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// cellsOf returns the cells of a job's row by the names of their columns.
func cellsOf(j *batchv1.Job, pod *corev1.Pod, now time.Time) map[string]any {
	table, cells := tableOf([]row{newRow(j, pod, now)}), map[string]any{}
	for i, c := range table.ColumnDefinitions {
		cells[c.Name] = table.Rows[0].Cells[i]
	}
	return cells
}

// endedWith is a Pod whose two containers have ended, and what its agent says of it.
func endedWith(cause string, code int32) *corev1.Pod {
	pod := podWith(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}})
	pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Message: fmt.Sprintf(`{"cause":%q,"code":%d}`, cause, code)}}
	return pod
}

// heldBy is a Pod whose two containers have ended, and another one has not.
func heldBy(other string) *corev1.Pod {
	pod := endedWith("Error", 7)
	pod.Spec.Containers = []corev1.Container{{Name: "agent"}, {Name: "job"}, {Name: other}}
	return pod
}

func TestRowForeign(t *testing.T) {
	j := &batchv1.Job{}
	j.DeletionTimestamp = &metav1.Time{}
	j.Annotations = map[string]string{"hodei.io/spec": "no JSON"}
	cells := cellsOf(j, &corev1.Pod{}, time.Now())
	if got := fmt.Sprint(cells["Status"], cells["Image"], cells["Node"], cells["Command"]); got != "Deleting<none><none><none>" {
		t.Error(got)
	}
}

// A table with commands of any length fits the terminal, and its other columns are whole.
func TestCutCommands(t *testing.T) {
	for _, test := range []struct {
		name       string
		width      int
		namespaces bool
		want       int // columns of the longest row
	}{
		{"wide", 160, false, 160},
		{"with namespaces", 160, true, 160},
		{"narrow", 40, false, 84}, // as wide as the other columns are, and minCommand
	} {
		t.Run(test.name, func(t *testing.T) {
			var rows []row
			for i, command := range []string{"true", strings.Repeat("x", 1<<20), strings.Repeat("节点", 1000)} {
				j := &batchv1.Job{}
				j.Name, j.Namespace, j.CreationTimestamp = fmt.Sprint("hodei-", i), "team", metav1.Now()
				spec, err := json.Marshal(job.Spec{Name: j.Name, Command: []string{command}})
				if err != nil {
					t.Fatal(err)
				}
				j.Annotations = map[string]string{"hodei.io/spec": string(spec)}
				rows = append(rows, newRow(j, nil, time.Now()))
			}
			table := tableOf(rows)
			cutCommands(table, test.width, test.namespaces)
			var out bytes.Buffer
			printer := printers.NewTablePrinter(printers.PrintOptions{Wide: true, WithNamespace: test.namespaces})
			if err := printer.PrintObj(table, &out); err != nil {
				t.Fatal(err)
			}
			longest := 0
			for line := range strings.Lines(out.String()) {
				longest = max(longest, ui.Columns(strings.TrimRight(line, " \n")))
			}
			if longest != test.want {
				t.Errorf("%d columns, want %d:\n%s", longest, test.want, out.String())
			}
			if !strings.HasSuffix(strings.TrimRight(strings.Split(out.String(), "\n")[1], " "), "true") {
				t.Errorf("the command is not the last column:\n%s", out.String())
			}
		})
	}
}

// One job whose command YAML can't carry, which somebody else has made, hides no other,
// and none can command the terminal.
func TestOthersJobs(t *testing.T) {
	odd := "\u009b2J \x7f\u202e<\uffff"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		list := &batchv1.JobList{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "JobList"}, Items: make([]batchv1.Job, 2)}
		list.Items[0].Name, list.Items[1].Name = "one", "two"
		list.Items[1].Annotations = map[string]string{"a": odd}
		_ = json.NewEncoder(w).Encode(list)
	}))
	defer server.Close()
	client, err := clientset.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"json", "yaml"} {
		flags := genericclioptions.NewPrintFlags("").WithDefaultOutput(format)
		printer, err := command.NewPrinter(flags.OutputFormat, flags.ToPrinter)
		if err != nil || *flags.OutputFormat != format {
			t.Fatal(err, *flags.OutputFormat)
		}
		var out bytes.Buffer
		o := &Options{Out: &out, client: client, namespace: "ns", printer: printer}
		if err := o.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if outputtest.CommandsTerminal(out.String()) {
			t.Errorf("%s: %q", format, out.String())
		}
		var list batchv1.JobList
		if err := yaml.Unmarshal(out.Bytes(), &list); err != nil || len(list.Items) != 2 || list.Items[1].Annotations["a"] != odd {
			t.Errorf("%s: %v, %v", format, list.Items, err)
		}
	}
}

// TestWatch follows a change that an API server reports, and shows the
// headers once.
func TestWatch(t *testing.T) {
	job := func(conditions string) string {
		return `{"apiVersion":"batch/v1","kind":"Job",
			"metadata":{"name":"one","namespace":"ns","resourceVersion":"6"},"status":{` + conditions + `}}`
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/pods"):
			w.WriteHeader(http.StatusForbidden) // shown less, not nothing
			json.NewEncoder(w).Encode(metav1.Status{
				TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
				Status:   metav1.StatusFailure, Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden,
				Message: `pods is forbidden: User "dev" cannot list resource "pods" in API group "" in the namespace "ns"`,
			})
		case r.URL.Query().Get("watch") == "":
			fmt.Fprintf(w, `{"apiVersion":"batch/v1","kind":"JobList","metadata":{"resourceVersion":"5"},"items":[%s]}`, job(""))
		default:
			if got := r.URL.Query().Get("resourceVersion"); got != "5" {
				t.Errorf("watched from %q, want 5", got)
			}
			fmt.Fprintf(w, `{"type":"MODIFIED","object":%s}`, job(`"conditions":[{"type":"Complete","status":"True"}]`))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	client, err := clientset.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	read, write := io.Pipe()
	var said bytes.Buffer
	o := Options{
		Out: write, ErrOut: &said, client: client, namespace: "ns", watch: true, table: true,
		printer:   printers.NewTablePrinter(printers.PrintOptions{}),
		width:     func() int { return 0 },
		openStore: func() (*place.Store, error) { return nil, errors.New("there is none") },
		named:     func(hint string) string { return strings.ReplaceAll(hint, "{hodei}", "hodei") },
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- o.Run(ctx)
		write.Close()
	}()
	lines := bufio.NewScanner(read)
	for _, want := range []string{"NAME", "one Pending", "one Complete"} {
		if !lines.Scan() {
			t.Fatalf("the output ends before %q", want)
		}
		if got := strings.Join(strings.Fields(lines.Text()), " "); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	cancel()
	io.Copy(io.Discard, read) // until the pipe is closed
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	want := `without what only Pods tell: forbidden: user "dev" may not list pods in namespace "ns"
hint: an administrator can grant it: kubectl create rolebinding hodei-dev --clusterrole=hodei-user --user=dev -n ns` +
		"; if that is bound already: hodei install --workers-namespace=ns\n"
	if said.String() != want { // once
		t.Errorf("said %q, want %q", said.String(), want)
	}
}
