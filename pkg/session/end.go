package session

import "github.com/hodei-jobs/hodei/pkg/job"

// afterExit decides about the exit record of an attempt; stopped tells that the job was asked to stop.
func afterExit(o *job.Outcome, retries int32, stopped bool) step {
	switch {
	case !o.Succeeded() && retries > 0 && !stopped:
		return awaitJob
	case o.Cause == job.Unknown, o.PodEnded:
		return awaitPod
	}
	return endRun
}

// endOfJob returns how a run ends whose job is over, by the provider's word seen. seen is nil if the
// job can't be watched any more; endOfJob returns nil then if the end is not known otherwise. last is
// the end of an attempt that is known by now, and record that of the attempt latest by its agent's
// word, if it has just come; either may be nil.
func endOfJob(last, record, seen *job.Outcome, retries int32, latest string) *job.Outcome {
	if record != nil {
		if retries == 0 && record.Cause != job.Unknown && !record.PodEnded {
			return record
		}
		named := *record
		named.Attempt = latest
		last = &named
	}
	if seen == nil {
		return nil
	}
	if last != nil && last.PodEnded && last.Attempt != latest {
		last = nil // of an attempt before
	}
	return job.Settled(last, seen)
}
