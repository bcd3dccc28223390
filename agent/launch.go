package agent

import (
	"context"
	"os"

	"github.com/hodei-jobs/hodei/agent/launcher"
)

// LaunchConfig is what the launcher needs to know.
type LaunchConfig = launcher.Config

// ErrAgentGone means that the agent died while the command ran, or as it was to start. The command
// was ended.
var ErrAgentGone = launcher.ErrAgentGone

// Launch is process 1 of the job's container, as [launcher.Run] is. It stands here so that a
// worker's program finds all that it can be in one package.
func Launch(ctx context.Context, cfg LaunchConfig, signals <-chan os.Signal) (int, error) {
	return launcher.Run(ctx, cfg, signals)
}
