package cli

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/spf13/cobra"

	"github.com/hodei-jobs/hodei/internal/httpserve"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// metricsFlag is the flag of the commands that are a coordinator.
func metricsFlag(cmd *cobra.Command, address *string) {
	cmd.Flags().StringVar(address, "metrics-addr", "", "Serve the jobs' usage to Prometheus at this address under /metrics. :9464 is 127.0.0.1 only; 0.0.0.0:9464 lets everybody in. Default: off.")
}

// metricsAddress checks that flag. Without a host it is loopback: whoever reaches the
// address sees the names of jobs and what they use.
func metricsAddress(cmd *cobra.Command, address string) (string, error) {
	if address == "" {
		if cmd.Flags().Changed("metrics-addr") {
			return "", usagef(cmd, "--metrics-addr \"\": want HOST:PORT or :PORT")
		}
		return "", nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return "", usagef(cmd, "--metrics-addr %q: want HOST:PORT or :PORT", address)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// serveMetrics shows what the job uses, if that was asked for, until stop is called. An
// address that can't be had is an error before there is a job.
func (o *runOptions) serveMetrics(command string) (stop func(), err error) {
	if o.metricsAddr == "" {
		return func() {}, nil
	}
	l, err := httpserve.Listen(o.metricsAddr, fmt.Sprintf("choose another: {hodei} %s --metrics-addr HOST:PORT", command))
	if err != nil {
		return nil, err
	}
	o.exporter = exporter.New()
	o.screen.Note(fmt.Sprintf("metrics: http://%s/metrics", l.Addr()))
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		if err := o.exporter.Serve(ctx, l); err != nil { // the job is worth more
			o.screen.Note(fmt.Sprintf("metrics are not served any more: %v", err))
		}
	})
	return func() {
		cancel()
		work.Wait()
	}, nil
}

// exported is a Listener that also tells an Exporter; nil is none.
func exported(l coordinator.Listener, to *exporter.Exporter) coordinator.Listener {
	if to == nil {
		return l
	}
	return &exportedListener{Listener: l, to: to, ids: map[string]exporter.ID{}}
}

type exportedListener struct {
	coordinator.Listener
	to *exporter.Exporter

	mu  sync.Mutex
	ids map[string]exporter.ID // by attempt: the latest
}

func (l *exportedListener) id(attempt string) exporter.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids[attempt]
}

// Attached begins to show an attempt, in place of those before it, of which there may
// be no end.
func (l *exportedListener) Attached(a coordinator.Attachment) {
	id := exporter.ID{Namespace: a.Hello.Namespace, Job: a.Hello.Job, Attempt: a.Hello.Attempt}
	l.mu.Lock()
	for attempt, earlier := range l.ids {
		if earlier != id {
			l.to.Left(earlier)
			delete(l.ids, attempt)
		}
	}
	l.ids[id.Attempt] = id
	l.mu.Unlock()
	l.to.Attached(id)
	l.Listener.Attached(a)
}

// Metrics shows the latest sample.
func (l *exportedListener) Metrics(attempt string, m *hodeipb.Metrics) {
	l.to.Sample(l.id(attempt), wire.Sample(m))
	l.Listener.Metrics(attempt, m)
}

// Exited shows what the attempt has used in the end, for a while.
func (l *exportedListener) Exited(attempt string, record *hodeipb.ExitRecord) {
	id := l.id(attempt)
	if u := wire.Usage(record.Usage); u != nil {
		s := job.Sample{Usage: *u}
		if record.Finished.IsValid() {
			s.Time = record.Finished.AsTime()
		}
		l.to.Sample(id, s)
	}
	l.to.Left(id)
	l.Listener.Exited(attempt, record)
}
