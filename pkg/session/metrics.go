package session

import (
	"github.com/hodei-jobs/hodei/internal/httpserve"

	"context"
	"fmt"
	"sync"

	"github.com/hodei-jobs/hodei/pkg/exporter"
)

// ServeMetrics shows what the job uses, if that was asked for, until stop is called. An
// address that can't be had is an error before there is a job.
func (o *Config) ServeMetrics(command, address string) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	l, err := httpserve.Listen(address, fmt.Sprintf("choose another: {hodei} %s --metrics-addr HOST:PORT", command))
	if err != nil {
		return nil, err
	}
	o.exporter = exporter.New()
	o.Screen.Note(fmt.Sprintf("metrics: http://%s/metrics", l.Addr()))
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		if err := o.exporter.Serve(ctx, l); err != nil { // the job is worth more
			o.Screen.Note(fmt.Sprintf("metrics are not served any more: %v", err))
		}
	})
	return func() {
		cancel()
		work.Wait()
	}, nil
}
