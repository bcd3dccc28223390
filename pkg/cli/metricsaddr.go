package cli

import (
	"net"

	"time"

	"github.com/spf13/cobra"

	"github.com/hodei-jobs/hodei/pkg/follow"
)

// metricsFlag is the flag of the commands that are a coordinator.
func metricsFlag(cmd *cobra.Command, address *string) {
	cmd.Flags().StringVar(address, "metrics-addr", "", "Serve the jobs' usage to Prometheus at this address under /metrics. :9464 is 127.0.0.1 only; 0.0.0.0:9464 lets everybody in. Default: off.")
}

// metricsAddress checks that flag. Without a host it is loopback: whoever reaches the
// address sees the names of jobs and what they use.
func metricsAddress(cmd *cobra.Command, address string) (string, error) {
	if address == "" {
		if cmd.Flags().Changed("metrics-addr") {
			return "", usagef(cmd, "--metrics-addr \"\": want HOST:PORT or :PORT")
		}
		return "", nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return "", usagef(cmd, "--metrics-addr %q: want HOST:PORT or :PORT", address)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// usageIntervalFlag is the flag of the commands that follow a job.
func usageIntervalFlag(cmd *cobra.Command, interval *time.Duration) {
	cmd.Flags().DurationVar(interval, "usage-interval", 0, "With -o json or yaml: write a usage event this often, 100ms or more. Default: only at the end.")
}

// checkUsageInterval checks that flag; events tells whether there are any.
func checkUsageInterval(cmd *cobra.Command, interval time.Duration, events bool) error {
	switch {
	case !cmd.Flags().Changed("usage-interval"):
		return nil
	case interval < follow.LeastEvery:
		return usagef(cmd, "--usage-interval %s: want %s or more", interval, follow.LeastEvery)
	case !events:
		return usagef(cmd, "--usage-interval needs events: -o json or yaml, of a job that is followed")
	}
	return nil
}
