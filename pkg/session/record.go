package session

import (
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// newRecord returns the record that the store keeps of the session's job.
func (s *session) newRecord() *history.Record {
	r := &history.Record{Listener: s.follower, Before: s.Phases}
	if s.Store != nil {
		r.Store = s.Store.Store
	}
	r.Run = job.Run{Namespace: s.Place.Namespace(), Provider: providerName(s.Place), Spec: s.Spec}
	return r
}

// providerName is how the user calls a place; empty: in no way.
func providerName(p place.Place) string {
	switch p := p.(type) {
	case place.Cluster:
		return p.Name()
	case place.Machine:
		return provider.Local
	}
	return ""
}
