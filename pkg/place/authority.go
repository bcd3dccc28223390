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

// Authority returns the CA that signs for a job: that of dir; if dir is empty, that of the directory that FoundCerts
// returns; if there is none, a new one in memory. A directory without a usable CA is an error. The notes say which
// directory was found, and which were passed over and why; flag is the flag that names a directory, for hints.
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
	if dir == "" { // valid for longer than the run, since somebody may attach to the job later
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

// shown returns a directory as a sentence names it.
func shown(dir string) string {
	if dir == CertsDir {
		return "./" + dir
	}
	return dir
}

// CertsDirs returns the directories in which certificates are looked for, the first choice first.
func (h *Home) CertsDirs() []string {
	dirs := []string{CertsDir}
	if path, err := provider.Path(h.Getenv); err == nil {
		dirs = append(dirs, filepath.Join(filepath.Dir(path), "certs"))
	}
	return dirs
}

// PassedCerts is a directory with certificates that is passed over. Why is the reason, as the end of a sentence.
type PassedCerts struct{ Dir, Why string }

// String says that the directory is not used, and why.
func (p PassedCerts) String() string { return shown(p.Dir) + " is not used: " + p.Why }

// FoundCerts returns the first of CertsDirs that has hodei's own certificates, empty if there is none, and those before
// it that have others.
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

// CertsDir is the directory in which 'hodei certs generate' writes and its sister commands read by default.
const CertsDir = "certs"

// DirFlag returns the flag, after a space, that names a directory to the certs commands; empty for CertsDir, their
// default.
func DirFlag(dir string) string {
	if dir == CertsDir {
		return ""
	}
	return " --dir " + shell.Quote(dir)
}

// AuthorityHint returns what to do if certs.LoadAuthority(dir) fails with err.
func AuthorityHint(err error, dir string) string {
	about, _ := errors.AsType[*certs.FileError](err)
	key := filepath.Join(dir, "ca.key")
	switch {
	case errors.Is(err, certs.ErrExpired):
		return "{hodei} certs generate --force --dir " + shell.Quote(dir)
	case !errors.Is(err, fs.ErrNotExist):
		return "{hodei} certs inspect " + shell.Quote(dir)
	case about != nil && about.Path == key: // as generate --ca-cert leaves it: the key stays elsewhere
		return "copy the authority's key to " + shell.Quote(key) + ", or choose another directory: --certs DIR"
	}
	return "{hodei} certs generate --dir " + shell.Quote(dir)
}
