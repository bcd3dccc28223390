package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// authority is the CA that signs for a job: that of the directory, else of one that is
// found, else one in memory. Half a directory is an error, not a reason to make up
// another CA. The notes say which directory was found, or why one was not used; flag is the
// one that names a directory.
func (a *app) authority(dir, flag string) (authority *certs.Authority, notes []string, err error) {
	found := false
	if dir == "" {
		var passed []passedCerts
		dir, passed = a.foundCerts()
		found = dir != ""
		for _, p := range passed {
			notes = append(notes, fmt.Sprintf("%s; to use it: %s %s", p, flag, shellQuote(p.dir)))
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
		return nil, nil, &hinted{err: err, hint: hint}
	}
	if found {
		notes = append(notes, fmt.Sprintf("the CA of %s signs; to choose another: %s DIR", shown(dir), flag))
	}
	return authority, notes, nil
}

// shown is a directory as a sentence has it.
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

// passedCerts is a directory that looks as if it were to be used, and is not.
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

// authorityNotes say where the CA is from, and what is soon to be wrong with it.
func (o *runOptions) authorityNotes(now time.Time) []string {
	notes := slices.Clone(o.certsNotes)
	if soon := certs.EndsSoon(o.authority.Cert, now); soon != "" {
		notes = append(notes, o.named(fmt.Sprintf("the CA that signs for jobs ends at %s; to replace it: {hodei} certs rotate --ca%s", soon, dirFlag(o.authority.Dir))))
	}
	if exposed := o.authority.Exposed(); exposed != "" {
		notes = append(notes, exposed+"; to mend it: chmod 600 "+shellQuote(filepath.Join(o.authority.Dir, "ca.key")))
	}
	return notes
}
