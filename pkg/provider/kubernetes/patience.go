package kubernetes

import (
	"context"
	"fmt"
	"time"
)

// Ask asks a cluster. If patient, it asks again while the cluster does not answer, for [FirstWait],
// and tells note so once. A refusal is an answer.
func Ask[T any](ctx context.Context, patient bool, note func(string), ask func(context.Context) (T, error)) (T, error) {
	began, said := time.Now(), false
	for {
		found, err := ask(ctx)
		if !patient || ctx.Err() != nil || !Unanswered(err) || time.Since(began) >= FirstWait {
			return found, err
		}
		if !said {
			note(fmt.Sprintf("%s; waiting for up to %s", Explain(err).Message, FirstWait))
			said = true
		}
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
		}
	}
}
