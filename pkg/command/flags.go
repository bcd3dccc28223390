package command

import (
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/hodei-jobs/hodei/pkg/follow"
)

// MetricsFlag adds --metrics-addr, for commands that meet agents. [MetricsAddress] checks its value.
func MetricsFlag(cmd *cobra.Command, address *string) {
	cmd.Flags().StringVar(address, "metrics-addr", "", "Serve the jobs' usage to Prometheus at this address under /metrics. "+
		":9464 is 127.0.0.1 only; 0.0.0.0:9464 lets everybody in. Default: off.")
}

// MetricsAddress returns the HOST:PORT that --metrics-addr means, or a usage error of cmd. Without the flag it is
// empty. An address without a host is loopback's, because anybody who reaches it sees the names of jobs and what they
// use.
func MetricsAddress(cmd *cobra.Command, address string) (string, error) {
	if address == "" {
		if cmd.Flags().Changed("metrics-addr") {
			return "", Usagef(cmd, "--metrics-addr \"\": want HOST:PORT or :PORT")
		}
		return "", nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return "", Usagef(cmd, "--metrics-addr %q: want HOST:PORT or :PORT", address)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// UsageIntervalFlag adds --usage-interval, for commands that follow a job. [CheckUsageInterval] checks its value.
func UsageIntervalFlag(cmd *cobra.Command, interval *time.Duration) {
	cmd.Flags().DurationVar(interval, "usage-interval", 0,
		"With -o json or yaml: write a usage event this often, 100ms or more. Default: only at the end.")
}

// CheckUsageInterval returns a usage error of cmd if --usage-interval is too short, or was given although the command
// writes no events.
func CheckUsageInterval(cmd *cobra.Command, interval time.Duration, events bool) error {
	switch {
	case !cmd.Flags().Changed("usage-interval"):
		return nil
	case interval < follow.LeastEvery:
		return Usagef(cmd, "--usage-interval %s: want %s or more", interval, follow.LeastEvery)
	case !events:
		return Usagef(cmd, "--usage-interval needs events: -o json or yaml, of a job that is followed")
	}
	return nil
}
