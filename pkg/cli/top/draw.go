package top

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/hodei-jobs/hodei/pkg/ui"
)

// canvas is what a picture is drawn on.
type canvas interface {
	Size() (width, height int)
	Draw(lines []string) error
	Resized() <-chan os.Signal
	Quit() <-chan struct{}
}

// draw shows the jobs in place until the person leaves, or the one that was named ends.
func (t *running) draw(ctx context.Context) error {
	live, err := t.openLive()
	if err != nil {
		return err
	}
	defer live.Close()
	if over, err := t.drawOn(ctx, live); err != nil || !over {
		return err
	}
	live.Close()
	return t.rows()
}

// drawOn draws until the job that was named has ended, which over reports, or the person leaves or ctx ends.
func (t *running) drawOn(ctx context.Context, screen canvas) (over bool, err error) {
	looked, stop := t.looking(ctx)
	defer stop()
	redraw := time.NewTicker(t.interval)
	defer redraw.Stop()
	var trouble error // with the cluster; the jobs that are measured stay so
	for !t.over() {
		select { // first, so that a quit counts however much there is to draw
		case <-screen.Quit():
			return false, nil
		default:
		}
		if err := screen.Draw(t.picture(screen, trouble)); err != nil {
			return false, err
		}
		select {
		case <-redraw.C:
		case <-screen.Resized():
		case trouble = <-looked:
			if _, lost := t.contact.Next(time.Now(), trouble); lost != nil {
				return false, lost
			}
		case <-screen.Quit():
			return false, nil
		case <-ctx.Done():
			return false, nil
		}
	}
	return true, nil
}

// picture returns the lines of a title and the table, as many as the terminal has room for.
func (t *running) picture(screen canvas, trouble error) []string {
	width, height := screen.Size()
	title := fmt.Sprintf("hodei top   %s   %s   q: quit", t.where, time.Now().Format(time.TimeOnly))
	if trouble != nil {
		title = "the cluster was not asked: " + trouble.Error()
	}
	lines := append(ui.Table([]ui.Column{{Title: title}}, nil, width), "")
	rows := t.board.shown()
	if len(rows) == 0 {
		return append(lines, "no jobs run")
	}
	lines = append(lines, tableOf(rows, "", t.namespace == "", true, width)...)
	if above := len(lines) - len(rows); len(lines) > height && height > above {
		shown := height - above - 1
		lines = append(lines[:above+shown], fmt.Sprintf("and %d more", len(rows)-shown))
	}
	return lines
}
