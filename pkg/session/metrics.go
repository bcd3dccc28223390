package session

import (
	"context"
	"fmt"
	"sync"

	"github.com/hodei-jobs/hodei/internal/httpserve"
	"github.com/hodei-jobs/hodei/pkg/exporter"
)

// ServeMetrics serves the samples that e is given to Prometheus, at an address HOST:PORT, until stop is called or ctx
// ends. stop waits until serving has ended. Without an address it serves nothing, and e is nil. The error is that
// the address can't be listened on; its hint names hodei's command. note is called from another goroutine too.
func ServeMetrics(ctx context.Context, command, address string, note func(string)) (e *exporter.Exporter, stop func(), err error) {
	if address == "" {
		return nil, func() {}, nil
	}
	l, err := httpserve.Listen(address, fmt.Sprintf("choose another: {hodei} %s --metrics-addr HOST:PORT", command))
	if err != nil {
		return nil, nil, err
	}
	e = exporter.New()
	note(fmt.Sprintf("metrics: http://%s/metrics", l.Addr()))
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() {
		if err := e.Serve(ctx, l); err != nil { // the job is worth more
			note(fmt.Sprintf("metrics are not served any more: %v", err))
		}
	})
	return e, func() {
		cancel()
		work.Wait()
	}, nil
}
