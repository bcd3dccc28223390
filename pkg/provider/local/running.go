package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// Files in a job's directory by which another process sees that the job runs. The process that started the job holds the
// lock and has the pid. The lock ends with that process, however it ends.
const (
	lockFile = "lock"
	pidFile  = "pid"
)

// Running returns the pid of the process whose job of that name runs here, of the same user; 0: no such job runs.
func Running(name string) int { return running(name, "") }

// running is Running without the job in one directory.
func running(name, except string) int {
	for _, dir := range findDirs(name) {
		if dir == except || !locked(filepath.Join(dir, lockFile)) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, pidFile))
		if err != nil { // it ends in this moment
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			return pid
		}
	}
	return 0
}

// locked reports whether a process holds the lock of a file. It makes no file.
func locked(path string) bool {
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	defer lock.Close()
	free, err := lock.TryRLock()
	return err == nil && !free
}

// claim takes the job's name, or says that another job has it. Of two jobs that claim one name in the same moment, both
// may be refused.
func (r *Run) claim() error {
	path := func(name string) string { return filepath.Join(r.dir, name) }
	r.lock = flock.New(path(lockFile))
	if err := r.lock.Lock(); err != nil {
		return err
	}
	if err := os.WriteFile(path(pidFile), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(path(nameFile), []byte(r.name), 0o600); err != nil {
		return err
	}
	if pid := running(r.name, r.dir); pid != 0 {
		return &job.Failure{Cause: job.ConfigError, Message: fmt.Sprintf("a job %q runs on this machine (process %d)", r.name, pid),
			Hint: "choose another --name, or follow that one: {hodei} attach --provider local " + shell.Quote(r.name)}
	}
	return nil
}
