package clock

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAhead(t *testing.T) {
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339Nano, "2026-01-02T"+text+"Z")
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for _, tt := range []struct {
		name                  string
		made, asked, answered string
		want                  time.Duration
	}{
		{"same second", "10:00:00", "10:00:00.9", "10:00:00.95", 0},
		{"during the request", "10:00:03", "10:00:00.9", "10:00:05", 0},
		{"ahead", "10:05:00", "10:00:00", "10:00:01", 299 * time.Second},
		{"behind", "09:00:00", "10:00:00.5", "10:00:01", -time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ahead(at(tt.made), at(tt.asked), at(tt.answered)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// off is a clock that is ahead of ours by so much.
func off(ahead time.Duration) *Clock {
	c := &Clock{}
	answer := c.Wrap(roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{Header: http.Header{"Date": {time.Now().Add(ahead).UTC().Format(http.TimeFormat)}}}, nil
	}))
	_, _ = answer.RoundTrip(nil) //nolint:bodyclose // it has none, and no error
	return c
}

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Clock{}
		if ahead, known := c.Ahead(); known || ahead != 0 || strings.Contains(c.Both(), "API server") {
			t.Errorf("unheard: %s, %v, %q", ahead, known, c.Both())
		}
		for _, date := range []string{"", "yesterday"} {
			_, _ = c.Wrap(roundTripper(func(*http.Request) (*http.Response, error) {
				return &http.Response{Header: http.Header{"Date": {date}}}, nil
			})).RoundTrip(nil) //nolint:bodyclose // it has none
			if _, known := c.Ahead(); known {
				t.Errorf("known by the date %q", date)
			}
		}
		failed := errors.New("away")
		fails := c.Wrap(roundTripper(func(*http.Request) (*http.Response, error) { return nil, failed }))
		if _, err := fails.RoundTrip(nil); !errors.Is(err, failed) { //nolint:bodyclose // there is none
			t.Errorf("error is %v", err)
		}
		for _, want := range []time.Duration{0, time.Hour, -time.Minute} {
			c := off(want)
			now := time.Now()
			if got, known := c.Ahead(); !known || got != want ||
				c.Both() != "this machine's clock says "+stamp(now)+", the API server's "+stamp(now.Add(want)) {
				t.Errorf("%s ahead: %s, %v, %q", want, got, known, c.Both())
			}
		}
	})
}
