package top

import (
	"context"
	"fmt"
	"time"

	"github.com/hodei-jobs/hodei/pkg/ui"
)

// print writes what is new each interval, until ctx or the job that was named ends, or the cluster stays
// unreachable.
func (t *running) print(ctx context.Context) error {
	looked, stop := t.looking(ctx)
	defer stop()
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	said := ""
	for {
		select {
		case err := <-looked:
			if _, lost := t.contact.Next(time.Now(), err); lost != nil {
				return lost
			}
			trouble := ""
			if err != nil {
				trouble = "the cluster was not asked: " + ui.Printable(err.Error())
			}
			if trouble != "" && trouble != said {
				fmt.Fprintln(t.ErrOut, trouble)
			}
			said = trouble
		case <-tick.C:
			over := t.over()
			if err := t.rows(); err != nil || over {
				return err
			}
		case <-t.board.changed:
			if t.over() {
				return t.rows()
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// printOnce shows the jobs as soon as all are measured, after onceWait at the latest.
func (t *running) printOnce(ctx context.Context) error {
	patience := time.After(onceWait)
	for !t.board.measured() {
		select {
		case <-t.board.changed:
		case <-patience:
			return t.rows()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return t.rows()
}

// rows writes a table, or what is new as objects.
func (t *running) rows() error {
	rows := t.board.shown()
	if t.events != nil {
		for i := range rows {
			if err := t.objects(&rows[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) == 0 {
		return t.nothing()
	}
	t.idle = false
	for _, line := range tableOf(rows, time.Now().Format(time.TimeOnly), t.namespace == "", false, 0) {
		if _, err := fmt.Fprintln(t.Out, line); err != nil {
			return err
		}
	}
	return nil
}

// nothing says that no job runs, unless it has just said so.
func (t *running) nothing() error {
	switch {
	case t.idle:
	case t.namespace == "":
		fmt.Fprintln(t.ErrOut, "No running jobs found.")
	default:
		fmt.Fprintf(t.ErrOut, "No running jobs found in %s namespace.\n", t.namespace)
	}
	t.idle = true
	return nil
}
