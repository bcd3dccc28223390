package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// authority is the CA that signs for a job: that of the directory, else of one that is
// found, else one in memory. Half a directory is an error, not a reason to make up
// another CA.
func (a *app) authority(dir string) (*certs.Authority, error) {
	if dir == "" {
		dir = a.foundCerts()
	}
	if dir == "" { // it outlives the run, since the job may be attached to again
		return certs.NewAuthority(0)
	}
	authority, err := certs.LoadAuthority(dir)
	if err != nil {
		return nil, &hinted{err: err, hint: authorityHint(err, dir)}
	}
	return authority, nil
}

// certsDirs are the directories in which certificates are looked for.
func (a *app) certsDirs() []string {
	dirs := []string{defaultCertsDir}
	if path, err := provider.Path(a.getenv); err == nil {
		dirs = append(dirs, filepath.Join(filepath.Dir(path), "certs"))
	}
	return dirs
}

// foundCerts is the first of them that has a CA, or half of one; "" is none.
func (a *app) foundCerts() string {
	for _, dir := range a.certsDirs() {
		for _, file := range []string{"ca.crt", "ca.key"} {
			if _, err := os.Stat(filepath.Join(dir, file)); !errors.Is(err, fs.ErrNotExist) {
				return dir
			}
		}
	}
	return ""
}

// authorityNotes say what is soon to be wrong with the CA.
func (o *runOptions) authorityNotes(now time.Time) []string {
	var notes []string
	if soon := certs.EndsSoon(o.authority.Cert, now); soon != "" {
		notes = append(notes, o.named(fmt.Sprintf("the CA that signs for jobs ends at %s; to replace it: {hodei} certs rotate --ca%s", soon, dirFlag(o.authority.Dir))))
	}
	if exposed := o.authority.Exposed(); exposed != "" {
		notes = append(notes, exposed+"; to mend it: chmod 600 "+shellQuote(filepath.Join(o.authority.Dir, "ca.key")))
	}
	return notes
}
