package place

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// Authority returns the CA that signs for a job: that of dir, else that of a directory of
// hodei's own, else one in memory. An incomplete directory is an error, not a reason to make up
// another CA. The notes say which directory was found, or why one is not used; flag is the flag
// that names a directory.
func (h *Home) Authority(dir, flag string) (authority *certs.Authority, notes []string, err error) {
	found := false
	if dir == "" {
		var passed []PassedCerts
		dir, passed = h.FoundCerts()
		found = dir != ""
		for _, p := range passed {
			notes = append(notes, fmt.Sprintf("%s; to use it: %s %s", p, flag, shell.Quote(p.Dir)))
		}
	}
	if dir == "" { // it outlives the run, since the job may be attached to again
		authority, err = certs.NewAuthority(0)
		return authority, notes, err
	}
	if authority, err = certs.LoadAuthority(dir); err != nil {
		hint := AuthorityHint(err, dir)
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
	if dir == CertsDir {
		return "./" + dir
	}
	return dir
}

// CertsDirs are the directories in which certificates are looked for.
func (h *Home) CertsDirs() []string {
	dirs := []string{CertsDir}
	if path, err := provider.Path(h.Getenv); err == nil {
		dirs = append(dirs, filepath.Join(filepath.Dir(path), "certs"))
	}
	return dirs
}

// PassedCerts is a directory that looks as if it were meant, and is not used.
type PassedCerts struct{ Dir, Why string }

func (p PassedCerts) String() string { return shown(p.Dir) + " is not used: " + p.Why }

// FoundCerts is the first of certsDirs that is hodei's own; "" is none.
func (h *Home) FoundCerts() (dir string, passed []PassedCerts) {
	for _, dir := range h.CertsDirs() {
		own, why := certs.Own(dir)
		if own {
			return dir, passed
		}
		if why != "" {
			passed = append(passed, PassedCerts{dir, why})
		}
	}
	return "", passed
}

// CertsDir is where generate writes and the others read.
const CertsDir = "certs"

// DirFlag is what names a directory to the commands of certs.
func DirFlag(dir string) string {
	if dir == CertsDir {
		return ""
	}
	return " --dir " + shell.Quote(dir)
}

// AuthorityHint is what helps where the authority of a directory can't be loaded.
func AuthorityHint(err error, dir string) string {
	about, _ := errors.AsType[*certs.FileError](err)
	key := filepath.Join(dir, "ca.key")
	switch {
	case errors.Is(err, certs.ErrExpired):
		return "{hodei} certs generate --force --dir " + shell.Quote(dir)
	case !errors.Is(err, fs.ErrNotExist):
		return "{hodei} certs inspect " + shell.Quote(dir)
	case about != nil && about.Path == key: // by design, where generate --ca-cert was told of one elsewhere
		return "copy the authority's key to " + shell.Quote(key) + ", or choose another directory: --certs DIR"
	}
	return "{hodei} certs generate --dir " + shell.Quote(dir)
}
