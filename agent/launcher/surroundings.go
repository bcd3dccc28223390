package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/contract"
)

// surroundings are what a command finds.
type surroundings struct {
	path string // of its program
	dir  string // that it starts in; empty: the launcher's own
	env  []string
}

// errWorkdir says that the command has no directory to start in.
var errWorkdir = errors.New("no working directory")

// surround goes to cfg's Workdir, finds the command's program, and gives the command a
// home and a directory that it may write to where the image has none.
//
// The directory is not left to the container's runtime: that makes one that is missing,
// as root, and the command could not write there.
func (cfg Config) surround() (surroundings, error) {
	s := surroundings{env: os.Environ()}
	if cfg.Workdir != "" {
		if err := os.Chdir(cfg.Workdir); err != nil {
			return s, fmt.Errorf("%w: --workdir %q: %w", errWorkdir, cfg.Workdir, withoutPath(err))
		}
	}
	cwd, err := os.Getwd()
	if err != nil {
		return s, fmt.Errorf("%w: %w", errWorkdir, err)
	}
	if cfg.Workdir != "" {
		s.set("PWD", cwd) // else it tells where the launcher was
	}
	// Before it moves to its home, where it has no file: ./app of an image that names no
	// directory is in the root.
	if s.path, err = findProgram(cfg.Command[0]); err != nil || cfg.Home == "" {
		return s, err
	}
	home, dir := cfg.lacks(os.Getenv("HOME"), cwd, writableDir)
	if !home && !dir {
		return s, nil
	}
	// The volume itself is root's: nobody else may change its mode, and git refuses it.
	own := filepath.Join(cfg.Home, "home")
	if err := os.Mkdir(own, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		fmt.Fprintf(os.Stderr, contract.LaunchPrefix+"no home for the command: %v\n", err)
		return s, nil // most commands need none
	}
	if home {
		s.set("HOME", own)
	}
	if dir {
		s.dir = own
		s.set("PWD", own)
	}
	return s, nil
}

// lacks reports whether a command with this home and cwd needs another home, and another
// directory. It replaces neither one that the user named nor the image's WORKDIR, which has the
// image's files.
func (cfg Config) lacks(home, cwd string, writable func(dir string) bool) (needsHome, needsDir bool) {
	return !cfg.KeepHome && !(filepath.IsAbs(home) && writable(home)),
		cfg.Workdir == "" && cwd == "/" && !writable(cwd)
}

// writableDir tells whether we can make files in a directory.
func writableDir(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir() && unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}

// set gives the command a variable in place of all of that name.
func (s *surroundings) set(name, value string) {
	s.env = slices.DeleteFunc(s.env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	s.env = append(s.env, name+"="+value)
}
