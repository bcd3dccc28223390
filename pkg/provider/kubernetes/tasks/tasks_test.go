package tasks

import (
	"context"
	"testing"
)

func TestGroup(t *testing.T) {
	type key struct{}
	var work Group
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	values := make(chan any)
	stop := work.Go(ctx, func(ctx context.Context) {
		values <- ctx.Value(key{})
		<-ctx.Done()
		values <- ctx.Err()
	})
	cancel()
	if got := <-values; got != "value" {
		t.Errorf("value %v", got)
	}
	select {
	case got := <-values:
		t.Fatalf("ended with the context that it was started with: %v", got)
	default:
	}
	stop()
	if got := <-values; got != context.Canceled {
		t.Errorf("stopped with %v", got)
	}

	ended := 0
	work.Go(ctx, func(ctx context.Context) { <-ctx.Done(); ended++ })
	work.Close()
	if ended != 1 {
		t.Error("Close has not waited")
	}
	work.Go(ctx, func(context.Context) { ended++ })
	work.Close()
	if ended != 1 || len(work.stops) > 0 {
		t.Errorf("after Close: %d were run, %d are left", ended, len(work.stops))
	}
}
