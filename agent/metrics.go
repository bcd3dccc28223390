package agent

import (
	"context"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// sendMetrics sends the samples that the coordinator lacks, as far as they were kept,
// and from then on one at each of its intervals, up to the last of all. While one is
// on its way, those that follow replace each other: a slow coordinator gets fewer.
func (t *attachment) sendMetrics(ctx context.Context, welcome *hodeipb.Welcome) error {
	interval := welcome.MetricsInterval.AsDuration()
	if interval <= 0 {
		return nil
	}
	defer t.samples.Join(interval)()
	var sent time.Time
	if welcome.MetricsAfter != nil {
		sent = welcome.MetricsAfter.AsTime()
	}
	for _, m := range t.samples.After(sent) {
		if err := t.sendSample(ctx, m); err != nil {
			return err
		}
		sent = m.Time.AsTime()
	}
	// A tenth less: timers are late, one more than the other.
	apart := interval - interval/10
	for {
		m, over, changed := t.samples.State()
		if m != nil {
			since := m.Time.AsTime().Sub(sent)
			if since >= apart || over && since > 0 {
				if err := t.sendSample(ctx, m); err != nil {
					return err
				}
				sent = m.Time.AsTime()
				continue
			}
		}
		if over {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *attachment) sendSample(ctx context.Context, m *hodeipb.Metrics) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.send(&hodeipb.Envelope{Message: &hodeipb.FromAgent{Message: &hodeipb.FromAgent_Metrics{Metrics: m}}}); err != nil {
		return err
	}
	t.samplesSent++
	return nil
}
