package describe

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/ui"
	"github.com/hodei-jobs/hodei/pkg/usage"
)

// print writes d as kubectl describe writes objects, with its times in zone.
func (d *description) print(out io.Writer, now time.Time, zone *time.Location) error {
	t := &describer{w: tabwriter.NewWriter(out, 0, 8, 2, ' ', 0), zone: zone}
	t.line(0, "Name", d.Name)
	t.line(0, "Namespace", d.Namespace)
	t.line(0, "Provider", d.Provider)
	if !d.Created.IsZero() {
		t.line(0, "Created", fmt.Sprintf("%s (%s ago)", t.stamp(d.Created), duration.HumanDuration(now.Sub(d.Created))))
	}
	state := d.State
	if d.Outcome != nil {
		state = endText(d.Outcome)
	}
	t.line(0, "State", state)
	t.line(0, "Without eBPF", d.WithoutEBPF)
	if d.Spec != nil {
		t.spec(d.Spec, d.Namespace == local.Namespace)
	}
	for i := range d.Attempts {
		t.attempt(&d.Attempts[i])
	}
	if len(d.Attempts) == 0 {
		t.line(0, "Attempts", "none")
	}
	switch {
	case len(d.Events) > 0:
		t.events(d.Events, now)
	case d.eventsRead:
		t.line(0, "Events", "none")
	}
	for _, why := range d.Missing {
		t.line(0, "Missing", why)
	}
	if t.err != nil {
		return t.err
	}
	return t.w.Flush()
}

// endText says how a job or an attempt ended, its cause first.
func endText(o *job.Outcome) string {
	text := o.Summary()
	if !strings.HasPrefix(text, string(o.Cause)) {
		text = string(o.Cause) + ": " + text
	}
	return text
}

// describer writes names and values, with the values in a column. Its err is the first error; nothing is written
// after it.
type describer struct {
	w    *tabwriter.Writer
	zone *time.Location
	err  error
}

// write writes text, unless an error came before.
func (t *describer) write(text string) {
	if t.err == nil {
		_, t.err = io.WriteString(t.w, text)
	}
}

// line writes a name and its value, or nothing if the value is empty.
func (t *describer) line(depth int, name, value string) {
	if value != "" {
		t.write(strings.Repeat("  ", depth) + name + ":\t" + ui.Printable(value) + "\n")
	}
}

// head begins a section. Its value may be empty.
func (t *describer) head(depth int, name, value string) {
	t.write(strings.TrimRight(strings.Repeat("  ", depth)+name+":\t"+ui.Printable(value), "\t ") + "\n")
}

// spec writes what the job asked for. here is true for a job on this machine, which has no Pod.
func (t *describer) spec(s *job.Spec, here bool) {
	t.line(0, "Command", shell.Line(s.Command))
	image := s.Image
	if image == "" && !here {
		image = "the worker's own"
	}
	t.line(0, "Image", image)
	t.line(0, "User", s.User)
	t.line(0, "Workdir", s.Workdir)
	var names []string
	for _, v := range s.Env {
		names = append(names, v.Name)
	}
	for _, e := range s.EnvFrom {
		if e.Secret != "" {
			names = append(names, "all of secret/"+e.Secret)
		} else {
			names = append(names, "all of configmap/"+e.ConfigMap)
		}
	}
	t.line(0, "Environment", strings.Join(names, ", "))
	resources := s.Resources()
	t.line(0, "CPU", boundsText(resources.CPU))
	t.line(0, "Memory", boundsText(resources.Memory))
	t.line(0, "Disk", quantityText(s.EphemeralStorage))
	if s.GPU > 0 {
		t.line(0, "GPU", fmt.Sprint(s.GPU))
	}
	for _, o := range []struct {
		name string
		d    time.Duration
	}{{"Timeout", s.Timeout}, {"Start timeout", s.StartTimeout}, {"Grace", s.Grace}, {"Linger", s.Linger}, {"TTL", s.TTL}} {
		if o.d > 0 && (!here || o.name != "Linger" && o.name != "TTL") {
			t.line(0, o.name, duration.HumanDuration(o.d))
		}
	}
	if s.Retries > 0 {
		t.line(0, "Retries", fmt.Sprint(s.Retries))
	}
	t.line(0, "Log spool", quantityText(s.LogSpool))
	t.line(0, "Log overflow", s.LogOverflow)
	var with []string
	for _, o := range []struct {
		name string
		on   bool
	}{{"detached", s.Detached}, {"merged output", s.MergeOutput}, {"container logs", s.ContainerLogs}, {"exec", s.Exec}} {
		if o.on {
			with = append(with, o.name)
		}
	}
	t.line(0, "With", strings.Join(with, ", "))
}

// boundsText returns the request, and the limit if it differs.
func boundsText(b job.Bounds) string {
	switch {
	case b.Limit == nil:
		return ""
	case b.Request == nil:
		return "at most " + b.Limit.String()
	case b.Limit.Cmp(*b.Request) == 0:
		return b.Request.String()
	}
	return b.Request.String() + ", at most " + b.Limit.String()
}

func quantityText(q *resource.Quantity) string {
	if q == nil {
		return ""
	}
	return q.String()
}

// attempt writes one attempt: its node, its end, its start, what it used, and its eBPF programs.
func (t *describer) attempt(a *attempt) {
	t.head(0, "Attempt", a.Name)
	t.line(1, "Node", a.Node)
	if a.Outcome != nil {
		t.line(1, "End", endText(a.Outcome))
		t.line(1, "Exec", execsText(a.Outcome.Execs))
	}
	if len(a.Others) > 0 {
		t.line(1, "Still runs", strings.Join(a.Others, ", ")+" (added by the cluster; the job completes once that has ended)")
	}
	for i, e := range a.Phases {
		if i == 0 {
			t.head(1, "Start", "")
		}
		name, detail := e.Phase.String(), e.Detail
		if e.Waiting {
			detail = "waiting: " + detail
		}
		since := ""
		if i > 0 {
			since = " (+" + job.Duration(max(0, e.Time.Sub(a.Phases[0].Time))) + ")"
		}
		t.line(2, name, strings.TrimSpace(t.stamp(e.Time)+since+"  "+detail))
	}
	if a.Usage != nil {
		t.usage(a)
	}
	t.probes(a)
}

// execsText says how many commands were run beside the job's; empty: none was.
func execsText(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 command was run beside it"
	}
	return fmt.Sprintf("%d commands were run beside it", n)
}

// usage writes what an attempt has used, and when that was.
func (t *describer) usage(a *attempt) {
	when := "at its end"
	if !a.Sampled.IsZero() {
		when = "at " + t.stamp(a.Sampled)
	}
	t.head(1, "Usage", when)
	figures := usage.Figures{Usage: a.Usage, Rate: a.Rate, Probes: a.Probes, NoEBPF: a.ebpfOff()}
	if a.Outcome != nil {
		figures.Wall = a.Outcome.Wall()
	}
	for _, l := range figures.Lines() {
		t.line(2, l.Name, l.Text)
	}
}

// ebpfOff reports whether no eBPF program takes part. Only its agent knows, now or in its exit record: stored samples
// don't name the parts that are absent.
func (a *attempt) ebpfOff() bool {
	told := a.asked || a.Outcome != nil && a.Sampled.IsZero()
	return told && len(a.Probes) == 0 && a.Usage != nil && a.Usage.Source != "" && !usage.HasEBPF(a.Usage.Source)
}

// probes writes for each eBPF program whether it works, and why not.
func (t *describer) probes(a *attempt) {
	if len(a.Probes) == 0 {
		switch {
		case a.ebpfOff():
			t.line(1, "eBPF", "off")
		case a.Usage != nil && usage.HasEBPF(a.Usage.Source):
			t.line(1, "eBPF", "works; with which parts is not known")
		case a.Usage != nil:
			t.line(1, "eBPF", "not known")
		}
		return
	}
	t.head(1, "eBPF", "")
	for _, p := range a.Probes {
		state := "works"
		if p.Absent != "" {
			state = "absent: " + p.Absent
		}
		t.line(2, ui.Printable(p.Name), state)
	}
}

// events writes a table of events.
func (t *describer) events(events []event, now time.Time) {
	t.head(0, "Events", "")
	if t.err == nil { // the table has columns of its own
		t.err = t.w.Flush()
	}
	t.write("  Age\tType\tReason\tObject\tMessage\n")
	for _, e := range events {
		age := duration.HumanDuration(now.Sub(e.Last))
		if e.Count > 1 {
			age += fmt.Sprintf(" (x%d)", e.Count)
		}
		t.write(fmt.Sprintf("  %s\t%s\t%s\t%s\t%s\n", age, e.Type, e.Reason, e.Object, e.Message))
	}
	if t.err == nil {
		t.err = t.w.Flush()
	}
}

// stamp writes a time as kubectl does.
func (t *describer) stamp(at time.Time) string { return at.In(t.zone).Format(time.RFC1123Z) }
