package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// keeper stores the output of the agents that attach, and logs what happens to them. Its methods may be called at the
// same time, except close.
type keeper struct {
	log        *slog.Logger
	store      *place.Store
	files      certs.ServerFiles
	tls        *tls.Config        // of files; nil: there are none, and no agent is served
	exporter   *exporter.Exporter // nil: none
	disk       *probe
	turnedAway *turnedAway
	quotas     *jobQuotas
}

// openKeeper opens the log store of this machine. The caller closes the keeper.
func openKeeper(home *place.Home, log *slog.Logger) (*keeper, error) {
	store, err := home.OpenStore(true)
	if err != nil {
		return nil, err
	}
	k := &keeper{
		log: log, store: store, disk: &probe{dir: store.Dir}, turnedAway: &turnedAway{log: log},
		quotas: &jobQuotas{quotas: map[string]*quota{}},
	}
	if why := store.Temporary; why != nil { // agents would be told that their output is safe
		k.close()
		return nil, &job.Hinted{
			Err:  fmt.Errorf("output can't be stored: %w", why),
			Hint: "set XDG_STATE_HOME to a directory that can be written to",
		}
	}
	store.TellDropped(k.warn)
	return k, nil
}

// close logs what was not logged yet, and closes the store. It is called once no agent is attached.
func (k *keeper) close() {
	k.turnedAway.end()
	k.store.Close(k.warn)
}

// warn logs what is about no agent.
func (k *keeper) warn(text string) { k.log.Warn(text) }

// open returns what stores the output of an attempt, and what is called when its agent has left.
func (k *keeper) open(hello *hodeipb.Hello) (coordinator.Follower, func()) {
	log := k.quotas.of(k.log, hello.Namespace+"/"+hello.Job, hello.Attempt)
	r := &coordinator.Recorder{Store: k.store.Store, Keep: true, Listener: follow.Exported(attemptLog{log}, k.exporter)}
	return r, func() {
		if k.exporter != nil {
			k.exporter.Left(exporter.ID{Namespace: hello.Namespace, Job: hello.Job, Attempt: hello.Attempt})
		}
		if err := r.Close(); err != nil {
			log.Error("output not closed", "error", err)
		}
		log.Info("agent left")
		k.store.TellDropped(k.warn)
	}
}

// health says why an agent that dials now could not attach to agents, or why its output could not be kept. Where no
// agents are served only the disk counts.
func (k *keeper) health(agents *coordinator.Hub) error {
	if k.tls != nil {
		if _, err := k.files.ServerConfig(); err != nil {
			return err
		}
		if err := agents.Ready(); err != nil {
			return err
		}
	}
	return k.disk.check()
}
