package jobs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/jsonpath"
	"k8s.io/kubectl/pkg/cmd/get"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// statuses are the words of the column Status, besides the reasons that a kubelet gives while a container waits.
var statuses = []string{
	"Pending", "Running", "Lingering", held, "Complete", "Failed", string(job.StartTimeout), "Suspended", "Deleting",
}

// held is the status of a job that has ended while containers of others, whose names follow it, have not.
const held = "HeldBy"

// reasons are those of a kubelet that are known, to be typed in any case.
var reasons = []string{
	"ContainerCreating", "PodInitializing", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName",
	"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff",
}

// checkStatus returns why word can be no status; nil: it may be one. A reason of a kubelet that is not known here begins
// with a capital.
func checkStatus(word string) error {
	known := slices.ContainsFunc(slices.Concat(statuses, reasons), func(s string) bool { return strings.EqualFold(s, word) })
	if known || word != "" && unicode.IsUpper([]rune(word)[0]) {
		return nil
	}
	return fmt.Errorf("want %s, or a reason that a Pod waits for, such as ImagePullBackOff", strings.Join(statuses, ", "))
}

// hasStatus reports whether status is one of the wanted ones, in any case; none wanted: every status is.
func hasStatus(status string, wanted []string) bool {
	status, _, _ = strings.Cut(status, ":") // HeldBy:NAME
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool { return strings.EqualFold(w, status) })
}

// choose returns those of rows that were asked for, in the order in which they are shown: in that of their names, or
// the latest first.
func (o *Options) choose(rows []row) []row {
	rows = slices.DeleteFunc(rows, func(r row) bool {
		return len(o.names) > 0 && !slices.Contains(o.names, r.job.Name) ||
			r.job.CreationTimestamp.Time.Before(o.from) ||
			!hasStatus(statusOf(r.job, r.pod), o.statuses)
	})
	slices.SortStableFunc(rows, func(a, b row) int {
		if len(o.names) > 0 {
			return slices.Index(o.names, a.job.Name) - slices.Index(o.names, b.job.Name)
		}
		return cmp.Or(b.job.CreationTimestamp.Compare(a.job.CreationTimestamp.Time), strings.Compare(a.job.Namespace, b.job.Namespace),
			strings.Compare(a.job.Name, b.job.Name))
	})
	return rows
}

// missing returns the names without a job among rows.
func (o *Options) missing(rows []row) []string {
	return slices.DeleteFunc(slices.Clone(o.names), func(name string) bool {
		return slices.ContainsFunc(rows, func(r row) bool { return r.job.Name == name })
	})
}

// field is what --sort-by means: a JSONPath expression, as kubectl reads it. The zero value is no field.
type field struct {
	text string // with its braces
	path *jsonpath.JSONPath
}

// parseField reads the value of --sort-by.
func parseField(text string) (field, error) {
	text, err := get.RelaxedJSONPathExpression(text)
	if err != nil {
		return field{}, err
	}
	f := field{text: text, path: jsonpath.New("sort-by").AllowMissingKeys(true)}
	return f, f.path.Parse(text)
}

// sort sorts rows by the field of their Jobs. Those without it come first, and equal ones stay in their order. It is an
// error if no Job has the field.
func (f field) sort(rows []row) error {
	if f.path == nil || len(rows) == 0 {
		return nil
	}
	values, none := map[*batchv1.Job]any{}, true
	for _, r := range rows {
		value, err := f.of(r.job)
		if err != nil {
			return err
		}
		values[r.job], none = value, none && value == nil
	}
	if none { // kubectl's words
		return &job.Hinted{Err: fmt.Errorf("couldn't find any field with path %q in the list of objects", f.text),
			Hint: "see which fields jobs have: {hodei} jobs -o yaml"}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return compareValues(values[a.job], values[b.job]) })
	return nil
}

// of returns the field's value in a Job, a string, a number or a bool; nil: the Job does not have it.
func (f field) of(j *batchv1.Job) (any, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(j)
	if err != nil {
		return nil, err
	}
	found, err := f.path.FindResults(object)
	if err != nil {
		return nil, fmt.Errorf("--sort-by %s: %w", f.text, err)
	}
	if len(found) == 0 || len(found[0]) == 0 || !found[0][0].IsValid() {
		return nil, nil
	}
	switch value := found[0][0].Interface().(type) {
	case nil, string, int64, float64, bool:
		return value, nil
	}
	return nil, &job.Hinted{Err: fmt.Errorf("--sort-by %s: job %s has no single value there", f.text, j.Name),
		Hint: "{hodei} jobs --sort-by .metadata.creationTimestamp"}
}

// compareValues orders values of one field: nothing before anything, numbers and quantities by how much they are, all
// else as text.
func compareValues(a, b any) int {
	if a == nil || b == nil {
		return cmp.Compare(btoi(a != nil), btoi(b != nil))
	}
	textA, textB := fmt.Sprint(a), fmt.Sprint(b)
	amountA, errA := resource.ParseQuantity(textA)
	amountB, errB := resource.ParseQuantity(textB)
	if errA == nil && errB == nil {
		return amountA.Cmp(amountB)
	}
	return strings.Compare(textA, textB)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
