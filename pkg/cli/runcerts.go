package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// authority returns the CA that signs for a job: that of dir, else that of a directory of
// hodei's own, else one in memory. An incomplete directory is an error, not a reason to make up
// another CA. The notes say which directory was found, or why one is not used; flag is the flag
// that names a directory.
func (a *app) authority(dir, flag string) (authority *certs.Authority, notes []string, err error) {
	found := false
	if dir == "" {
		var passed []passedCerts
		dir, passed = a.foundCerts()
		found = dir != ""
		for _, p := range passed {
			notes = append(notes, fmt.Sprintf("%s; to use it: %s %s", p, flag, shell.Quote(p.dir)))
		}
	}
	if dir == "" { // it outlives the run, since the job may be attached to again
		authority, err = certs.NewAuthority(0)
		return authority, notes, err
	}
	if authority, err = certs.LoadAuthority(dir); err != nil {
		hint := authorityHint(err, dir)
		if found && !strings.Contains(hint, "--certs") {
			hint += ", or choose another directory: " + flag + " DIR"
		}
		return nil, nil, &job.Hinted{Err: err, Hint: hint}
	}
	if found {
		notes = append(notes, fmt.Sprintf("the CA of %s signs; to choose another: %s DIR", shown(dir), flag))
	}
	return authority, notes, nil
}

// shown returns a directory as it is written in a sentence.
func shown(dir string) string {
	if dir == defaultCertsDir {
		return "./" + dir
	}
	return dir
}

// certsDirs are the directories in which certificates are looked for.
func (a *app) certsDirs() []string {
	dirs := []string{defaultCertsDir}
	if path, err := provider.Path(a.getenv); err == nil {
		dirs = append(dirs, filepath.Join(filepath.Dir(path), "certs"))
	}
	return dirs
}

// passedCerts is a directory that looks as if it were meant, and is not used.
type passedCerts struct{ dir, why string }

func (p passedCerts) String() string { return shown(p.dir) + " is not used: " + p.why }

// foundCerts is the first of certsDirs that is hodei's own; "" is none.
func (a *app) foundCerts() (dir string, passed []passedCerts) {
	for _, dir := range a.certsDirs() {
		own, why := certs.Own(dir)
		if own {
			return dir, passed
		}
		if why != "" {
			passed = append(passed, passedCerts{dir, why})
		}
	}
	return "", passed
}

// authorityNotes say where the CA is from, whether it ends soon, and whether others may read
// its key.
func (o *runOptions) authorityNotes(now time.Time) []string {
	notes := slices.Clone(o.certsNotes)
	if soon := certs.EndsSoon(o.authority.Cert, now); soon != "" {
		notes = append(notes, o.named(fmt.Sprintf("the CA that signs for jobs ends at %s; to replace it: {hodei} certs rotate --ca%s", soon, dirFlag(o.authority.Dir))))
	}
	if exposed := o.authority.Exposed(); exposed != "" {
		notes = append(notes, exposed+"; to mend it: chmod 600 "+shell.Quote(filepath.Join(o.authority.Dir, "ca.key")))
	}
	return notes
}
