// Package provider keeps the named places where workers can be made: the file
// of providers that hodei provider edits and hodei run chooses from. Start with
// [Load] to read it and [Update] to change it. What makes workers is below it,
// in provider/kubernetes and provider/local.
package provider

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/internal/atomicfile"
	"github.com/hodei-jobs/hodei/internal/xdg"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// Errors that a caller branches on; they are wrapped with the provider's name.
var (
	ErrNotFound = errors.New("not found")
	ErrTaken    = errors.New("is there already")
	// Only [Path] returns ErrNoPlace; a command that only reads then has no providers.
	ErrNoPlace = errors.New("no place for the providers' file: neither HOME nor XDG_CONFIG_HOME is an absolute path")
)

// lockWait is how long [Update] waits for another process that edits the file: an
// edit takes milliseconds, so that one which lasts longer has come to a stop.
const lockWait = 5 * time.Second

// lockPoll is how often it tries. The kernel's own wait for a lock could not be ended.
const lockPoll = 20 * time.Millisecond

// BusyError is why [Update] changed nothing: another process edits the file, and did
// for all of five seconds.
type BusyError struct {
	Path string // the file of providers
	Lock string // the file beside it that the other process has locked
}

func (e *BusyError) Error() string { return e.Path + " is being edited by another hodei" }

// Registry is the file of providers. The provider named "local" is always part
// of it and never written. It is not safe for concurrent use; [Update] is, also
// between processes.
type Registry struct {
	// Current is the provider in use; empty means that none was chosen.
	Current string `json:"current,omitempty"`
	// Providers by name, without "local". May be nil.
	Providers map[string]Config `json:"providers,omitempty"`
}

// Path is where the file of providers is: $XDG_CONFIG_HOME/hodei/config.yaml,
// in ~/.config where that is unset or, as its specification says, not absolute. Without
// a home either the error is ErrNoPlace.
func Path(getenv func(string) string) (string, error) {
	dir := xdg.Config(getenv)
	if dir == "" {
		return "", ErrNoPlace
	}
	return filepath.Join(dir, "hodei", "config.yaml"), nil
}

// Load reads the file at path. A file that does not exist, or can't since its home is no
// directory (/dev/null is some accounts'), is an empty Registry;
// anything in it that is not understood is an error which names it.
func Load(path string) (*Registry, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return &Registry{}, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func parse(data []byte) (*Registry, error) {
	data, err := yaml.YAMLToJSONStrict(data) // strict: no key twice
	if err != nil {
		return nil, err
	}
	var file Registry
	if err := decode(data, "", &file); err != nil {
		return nil, err
	}
	r := &Registry{}
	for _, name := range slices.Sorted(maps.Keys(file.Providers)) {
		key, c := "providers."+name, file.Providers[name]
		if err := c.Validate(); err != nil {
			return nil, job.Below(key, err)
		}
		if err := r.Add(name, c); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	// Add has put the first one in use; the file's word counts.
	r.Current = file.Current
	if _, err := r.Get(r.Current); r.Current != "" && err != nil {
		return nil, fmt.Errorf("current: %w", err)
	}
	return r, nil
}

// save writes r to path: as a whole or not at all, for the user's eyes only. To
// change a file that others may be changing, use [Update].
func (r *Registry) save(path string) error {
	data, err := yaml.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// A link stays one: people keep such files in a repository of their own.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	return atomicfile.Write(path, data)
}

// Update loads the file at path, lets change edit it, and saves it, while it
// keeps other processes from doing the same. Nothing is written if change fails. It
// waits for others until ctx ends, at most five seconds: then the error is a *BusyError.
func Update(ctx context.Context, path string, change func(*Registry) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// A file of its own, because Save replaces the other; it is left there, as
	// removing it would let two processes hold two locks.
	lock := flock.New(path + ".lock")
	if err := acquire(ctx, path, lock); err != nil {
		return err
	}
	defer lock.Close() // unlocks
	r, err := Load(path)
	if err != nil {
		return err
	}
	if err := change(r); err != nil {
		return err
	}
	return r.save(path)
}

// acquire takes lock within lockWait. It refuses once ctx has ended, even with the lock free:
// nobody wants the change then.
func acquire(ctx context.Context, path string, lock *flock.Flock) error {
	waiting, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	_, err := lock.TryLockContext(waiting, lockPoll)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return &BusyError{Path: path, Lock: lock.Path()}
	}
	if _, named := errors.AsType[*fs.PathError](err); err != nil && !named {
		return fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	return err
}

// Add puts a provider into r; the first one becomes the one in use. The error is
// ErrTaken if the name is, "local" included.
func (r *Registry) Add(name string, c Config) error {
	if errs := validation.IsDNS1123Label(name); len(errs) > 0 {
		return fmt.Errorf("provider %q: want a name of lower-case letters, digits and dashes, at most 63", name)
	}
	if _, err := r.Get(name); err == nil {
		return fmt.Errorf("provider %q %w", name, ErrTaken)
	}
	if err := c.Validate(); err != nil {
		return err
	}
	if r.Providers == nil {
		r.Providers = map[string]Config{}
	}
	if r.Current == "" {
		r.Current = name
	}
	r.Providers[name] = c
	return nil
}

// Set replaces the provider of that name. "local" is built in and can't be.
func (r *Registry) Set(name string, c Config) error {
	if name == Local {
		return builtIn(name)
	}
	if _, err := r.Get(name); err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	r.Providers[name] = c
	return nil
}

// builtIn is the error of a change to the provider of this machine.
func builtIn(name string) error {
	return &job.Hinted{Err: fmt.Errorf("provider %q is built in", name),
		Hint: "leave it as it is; to go elsewhere by default: {hodei} provider use NAME"}
}

// Get returns the provider of that name, or ErrNotFound.
func (r *Registry) Get(name string) (Config, error) {
	if name == Local {
		return Config{Type: Local}, nil
	}
	c, ok := r.Providers[name]
	if !ok {
		return Config{}, fmt.Errorf("provider %q %w", name, ErrNotFound)
	}
	return c, nil
}

// Use puts the provider of that name in use.
func (r *Registry) Use(name string) error {
	if _, err := r.Get(name); err != nil {
		return err
	}
	r.Current = name
	return nil
}

// Remove takes the provider of that name out. If it was in use, none is then.
func (r *Registry) Remove(name string) error {
	if name == Local {
		return builtIn(name)
	}
	if _, err := r.Get(name); err != nil {
		return err
	}
	delete(r.Providers, name)
	if r.Current == name {
		r.Current = ""
	}
	return nil
}

// Names returns the names of all providers, "local" among them, sorted.
func (r *Registry) Names() []string {
	names := append(slices.Collect(maps.Keys(r.Providers)), Local)
	slices.Sort(names)
	return names
}
