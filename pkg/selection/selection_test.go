package selection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// fakeCluster has the jobs called names, and fails for those in broken.
type fakeCluster struct {
	names  []string
	broken map[string]error
	asked  atomic.Int32 // how often
	most   atomic.Int32 // requests at the same time
	now    atomic.Int32
	meet   func() // called during a request; nil: nothing is done
}

func foundJob(name string) *kubernetes.Found {
	return &kubernetes.Found{Job: &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}}, Spec: &job.Spec{Name: name}}
}

func (c *fakeCluster) Find(_ context.Context, name string) (*kubernetes.Found, error) {
	c.asked.Add(1)
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	if c.meet != nil {
		c.meet()
	}
	switch {
	case c.broken[name] != nil:
		return nil, c.broken[name]
	case slices.Contains(c.names, name):
		return foundJob(name), nil
	}
	return nil, &job.Failure{Message: fmt.Sprintf("job %q not found", name), Err: kubernetes.ErrNotFound, Hint: "see"}
}

func (c *fakeCluster) FindAll(_ context.Context, selector string) ([]*kubernetes.Found, error) {
	if c.broken["*"] != nil {
		return nil, c.broken["*"]
	}
	var all []*kubernetes.Found
	for _, name := range c.names {
		if selector == "" || strings.HasPrefix(name, selector) {
			all = append(all, foundJob(name))
		}
	}
	return all, nil
}

func TestFind(t *testing.T) {
	away := &job.Failure{Cause: job.Unknown, Message: "the cluster is away", Hint: "wait"}
	for _, test := range []struct {
		name      string
		selection Selection
		broken    map[string]error
		found     string
		missing   []string
		err       string
	}{
		{name: "by names, in their order", selection: Selection{Names: []string{"b", "a"}}, found: "b a"},
		{name: "a missing one is named, and the others found", selection: Selection{Names: []string{"x", "b", "y"}}, found: "b",
			missing: []string{`job "x" not found`, `job "y" not found`}},
		{name: "all missing", selection: Selection{Names: []string{"x"}}, missing: []string{`job "x" not found`}},
		{name: "one that hodei has not made", selection: Selection{Names: []string{"a", "b"}},
			broken: map[string]error{"a": errors.New(`job "a" was not made by hodei`)}, found: "b",
			missing: []string{`job "a" was not made by hodei`}},
		{name: "a cluster that answers nothing is one error", selection: Selection{Names: []string{"a", "b"}},
			broken: map[string]error{"a": away, "b": away}, err: "the cluster is away"},
		{name: "one that does not answer once", selection: Selection{Names: []string{"a", "b"}},
			broken: map[string]error{"a": away}, found: "b", missing: []string{`job "a": the cluster is away`}},
		{name: "by labels", selection: Selection{Labels: "a"}, found: "a"},
		{name: "by labels that nothing has", selection: Selection{Labels: "z"}},
		{name: "all", selection: Selection{All: true}, found: "a b c"},
		{name: "all, of a cluster that does not answer", selection: Selection{All: true}, broken: map[string]error{"*": away},
			err: "the cluster is away"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &Finder{Cluster: &fakeCluster{names: []string{"a", "b", "c"}, broken: test.broken}}
			found, missing, err := f.Find(t.Context(), test.selection)
			var names, words []string
			for _, j := range found {
				names = append(names, j.Spec.Name)
			}
			for _, e := range missing {
				words = append(words, e.Error())
				if errors.Is(e, kubernetes.ErrNotFound) && job.HintOf(e) == "" {
					t.Errorf("%v has no hint", e)
				}
			}
			said := ""
			if err != nil {
				said = err.Error()
			}
			if strings.Join(names, " ") != test.found || !slices.Equal(words, test.missing) || said != test.err {
				t.Errorf("got %q, missing %q, error %q", names, words, said)
			}
		})
	}
}

// Many names are asked for at the same time, but not all.
func TestFindAtOnce(t *testing.T) {
	c := &fakeCluster{}
	full := make(chan struct{})
	fill := sync.OnceFunc(func() { close(full) })
	c.meet = func() {
		if c.now.Load() == findAtOnce {
			fill()
		}
		<-full
	}
	var names []string
	for i := range 3 * findAtOnce {
		names = append(names, fmt.Sprint(i))
	}
	_, missing, err := (&Finder{Cluster: c}).Find(t.Context(), Selection{Names: names})
	if err != nil || len(missing) != len(names) || int(c.asked.Load()) != len(names) {
		t.Errorf("%d of %d missing, %v", len(missing), len(names), err)
	}
	if most := c.most.Load(); most != findAtOnce {
		t.Errorf("%d requests at once, want %d", most, findAtOnce)
	}
}

// A command that was told to end does not tell of each job that it could not find.
func TestFindInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("told to end")
	c := &fakeCluster{meet: func() { cancel(cause) }}
	found, missing, err := (&Finder{Cluster: c}).Find(ctx, Selection{Names: []string{"x"}})
	if found != nil || missing != nil || !errors.Is(err, cause) {
		t.Errorf("got %v, %v, %v", found, missing, err)
	}
}
