package history

import (
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// StoredSamples are those that the store has of an attempt; none if it can't be read.
func StoredSamples(store *logstore.Store, k logstore.Key) []job.Sample {
	metrics, _ := coordinator.Samples(store, k) // those before the damage
	return wire.Samples(metrics)
}
