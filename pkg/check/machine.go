package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// storeRoom is the free space in bytes below which a job's output may soon find no room. A spool is as large by
// default.
const storeRoom = 1 << 30

// Worker checks that the program which the provider local runs is there.
func Worker() Result {
	path, err := local.FindWorker()
	if err != nil {
		return New("worker", Error, job.HintOf(err), "%v", err)
	}
	return New("worker", OK, "", "%s", path)
}

// ofCertificates returns the worst that was found of some certificates, or which of them expires first. hint returns
// what to do about one.
func ofCertificates(name string, facts []certs.Fact, hint func(certs.Fact) string) Result {
	var first *certs.Fact
	for i, f := range facts {
		if f.Problem != "" {
			return New(name, Error, hint(f), "%s: %s", f.Source, f.Problem)
		}
		if first == nil || !f.NotAfter.IsZero() && f.NotAfter.Before(first.NotAfter) {
			first = &facts[i]
		}
	}
	if i := slices.IndexFunc(facts, func(f certs.Fact) bool { return f.Warning != "" }); i >= 0 {
		return New(name, Warning, hint(facts[i]), "%s: %s", facts[i].Source, facts[i].Warning)
	}
	if first == nil {
		return New(name, Skipped, "", "no certificates")
	}
	return New(name, OK, "", "%d certificates; %s is the first to end, in %d days", len(facts), first.Source, first.DaysLeft)
}

// remedy returns what to do about the problem or the warning of a certificate. inspect is the command that shows the
// certificates; dir is the flag that names their directory to the other certs commands; then is added to a command
// that changes them.
func remedy(f certs.Fact, inspect, dir, then string) string {
	ended := f.DaysLeft < 0 && !f.NotAfter.IsZero()
	switch {
	case strings.Contains(f.Source, "#"): // it is only in a bundle of trusted CAs
		return inspect
	case f.Problem != "" && f.CA && ended:
		return "{hodei} certs generate --force" + dir + then
	case f.Problem != "" && ended && f.Key != certs.KeyDiffers && f.SignedBy != "":
		return "{hodei} certs rotate" + dir + then
	case f.Problem != "":
		return inspect
	case f.KeyMode != "":
		return "chmod 600 " + shell.Quote(strings.TrimSuffix(f.Source, ".crt")+".key")
	case f.CA:
		return "{hodei} certs rotate --ca" + dir + then
	}
	return "{hodei} certs rotate" + dir + then
}

// Certs checks the directory of certificates that a run would find.
func Certs(home *place.Home) Result {
	const name = "certificates"
	dir, passed := home.FoundCerts()
	switch {
	case dir == "" && len(passed) > 0:
		return New(name, Warning, "{hodei} run --certs "+shell.Quote(passed[0].Dir)+" -- COMMAND", "%s; each run makes its own", passed[0])
	case dir == "":
		return New(name, OK, "", "none in %s: each run makes its own", strings.Join(home.CertsDirs(), " or "))
	}
	inspect := "{hodei} certs inspect " + shell.Quote(dir)
	facts, err := certs.InspectDir(dir, time.Now())
	if err != nil {
		return New(name, Error, inspect, "%v", err)
	}
	c := ofCertificates(name, facts, func(f certs.Fact) string { return remedy(f, inspect, place.DirFlag(dir), "") })
	if c.Status == OK || c.Status == Warning { // each is good; are they enough for a run?
		if _, err := certs.LoadAuthority(dir); err != nil {
			return New(name, Error, place.AuthorityHint(err, dir), "%v", err)
		}
	}
	return c
}

// Store checks that output can be kept on this machine.
func Store(home *place.Home) Result {
	const name = "output"
	limits, err := home.StoreLimits()
	if err != nil {
		return New(name, Error, "unset HODEI_LOG_MAX_BYTES HODEI_LOG_MAX_AGE", "%v", err)
	}
	dir, err := home.StoreDir()
	if err != nil {
		return New(name, Warning, "export HOME=DIR", "output is not kept on this machine: %v", err)
	}
	// The store is made when it is needed. Until then, check the deepest directory of its path that exists.
	there := dir
	for _, err = os.Stat(there); errors.Is(err, fs.ErrNotExist) && there != filepath.Dir(there); _, err = os.Stat(there) {
		there = filepath.Dir(there)
	}
	if err == nil {
		err = place.Writable(there)
	}
	if err != nil {
		return New(name, Warning, "set XDG_STATE_HOME to a directory that can be written to", "output is not kept on this machine: %v", err)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(there, &disk); err != nil {
		return New(name, Warning, "", "statfs %s: %v", there, err)
	}
	free := int64(disk.Bavail) * int64(disk.Bsize) //nolint:unconvert // their types differ between systems
	detail := fmt.Sprintf("%s: %s free, at most %s are kept", dir, binary(free), binary(limits.MaxBytes))
	if free < storeRoom {
		return New(name, Warning, "make room, or set XDG_STATE_HOME to a larger disk", "%s", detail)
	}
	return New(name, OK, "", "%s", detail)
}

// binary writes a number of bytes for people: 12.3Gi, 512Mi.
func binary(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1fGi", float64(n)/(1<<30))
	}
	return resource.NewQuantity(n>>20<<20, resource.BinarySI).String()
}
