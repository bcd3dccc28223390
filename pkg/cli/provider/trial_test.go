package provider

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// silent is a place that never answers a Submit.
type silent struct{ place.Place }

func (silent) Namespace() string     { return "ns" }
func (silent) SetDefaults(*job.Spec) {}

func (silent) Submit(ctx context.Context, _ *job.Spec, _ *certs.JobCerts, _ kubernetes.RunOptions) (place.Job, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestTrySilent: a cluster that takes the request and never answers it does not keep the test from its end.
func TestTrySilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority, err := certs.NewAuthority(0)
		if err != nil {
			t.Fatal(err)
		}
		o := &testOptions{timeout: time.Minute, place: silent{}, authority: authority}
		began := time.Now()
		_, err = o.try(t.Context(), []string{"true"})
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 2*time.Minute {
			t.Errorf("after %s: %v", took, err)
		}
	})
}
