package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// ServeMetrics shows what the job uses, if that was asked for, until stop is called. An
// address that can't be had is an error before there is a job.
func (o *Config) ServeMetrics(command, address string) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	hint := fmt.Sprintf("choose another: {hodei} %s --metrics-addr HOST:PORT", command)
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &job.Hinted{Err: fmt.Errorf("address %s is in use", address), Hint: "see by whom: ss -ltnp; or " + hint}
	case err != nil:
		return nil, &job.Hinted{Err: err, Hint: hint}
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
