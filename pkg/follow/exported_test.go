package follow

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

// What a coordinator follows is exported: each attempt until the next one comes.
func TestExported(t *testing.T) {
	i := followtest.Issue(t, "ns", "x")
	e := exporter.New()
	server := &coordinator.Server{TLS: i.Server, Namespace: "ns", Job: "x", Silent: true,
		Follower: &coordinator.Recorder{Listener: Exported(silent{}, e)}}
	tunnel := tunnel.New()
	served := make(chan error, 1)
	go func() { served <- server.Serve(tunnel) }()
	defer func() {
		server.Close()
		<-served
	}()
	began := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	followtest.Attach(t, i, "x-1", tunnel.Deliver).Exit(followtest.Completed(began, 5))
	timeless := followtest.Completed(began, 7)
	timeless.Finished = nil
	second := followtest.Attach(t, i, "x-2", tunnel.Deliver)
	second.Sample(began, followtest.UsageAt(1))
	second.Exit(timeless)
	metrics := make(chan prometheus.Metric, 1000)
	e.Collect(metrics)
	close(metrics)
	got := map[string]float64{}
	for m := range metrics {
		var out dto.Metric
		if err := m.Write(&out); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(m.Desc().String(), `last_sample_timestamp`) && out.Gauge.GetValue() < float64(began.Unix()) {
			t.Errorf("the last sample of %s is of %f", out.Label[0].GetValue(), out.Gauge.GetValue())
		}
		if strings.Contains(m.Desc().String(), `"hodei_job_cpu_seconds_total"`) {
			got[out.Label[0].GetValue()] = out.Counter.GetValue()
		}
	}
	if got["x-1"] != 5 || got["x-2"] != 7 || len(got) != 2 {
		t.Errorf("got %v", got)
	}
}
