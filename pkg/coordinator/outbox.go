package coordinator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// outbox lets two goroutines send on one stream, which takes one at a time.
type outbox struct {
	mu     sync.Mutex
	stream hodeipb.Coordinator_AttachServer

	stored atomic.Uint64 // what the next ack will say
	acks   chan struct{} // has a value when there is something to acknowledge
}

func (o *outbox) send(m *hodeipb.ToAgent) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stream.Send(m)
}

// ack has it acknowledged that everything below offset is stored, soon.
func (o *outbox) ack(offset uint64) {
	o.stored.Store(offset)
	select {
	case o.acks <- struct{}{}:
	default: // the one that is due will say it
	}
}

// sendAcks sends acks until ctx ends, one in ackEvery at most. A stream that breaks
// is the receiver's to report.
func (o *outbox) sendAcks(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		select {
		case <-o.acks:
		case <-ctx.Done():
			return
		}
		if o.send(&hodeipb.ToAgent{Message: &hodeipb.ToAgent_Ack{Ack: &hodeipb.Ack{Offset: o.stored.Load()}}}) != nil {
			return
		}
		pause.Reset(ackEvery)
	}
}

// passOn sends orders until ctx ends. A stream that breaks is the receiver's to
// report.
func (o *outbox) passOn(ctx context.Context, orders <-chan *hodeipb.Control) {
	for {
		select {
		case order := <-orders:
			if o.send(&hodeipb.ToAgent{Message: &hodeipb.ToAgent_Control{Control: order}}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
