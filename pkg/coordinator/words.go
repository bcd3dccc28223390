package coordinator

import (
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// Outcome is [wire.Outcome], for commands that have a coordinator at hand.
func Outcome(r *hodeipb.ExitRecord) *job.Outcome { return wire.Outcome(r) }

// Usage is [wire.Usage].
func Usage(u *hodeipb.Usage) *job.Usage { return wire.Usage(u) }

// Sample is [wire.Sample].
func Sample(m *hodeipb.Metrics) job.Sample { return wire.Sample(m) }

// Probes is [wire.Probes].
func Probes(probes []*hodeipb.Probe) []job.Probe { return wire.Probes(probes) }
