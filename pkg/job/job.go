// Package job is the vocabulary of hodei: what a person asks for ([Spec]), how
// it went ([Outcome], [Cause]) and what is seen on the way ([Event]). It does
// no I/O; providers turn a Spec into workers, commands show Outcomes.
package job

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// Defaults of a Spec, used by [Spec.SetDefaults].
const (
	// DefaultGrace is Kubernetes' own: what images are written for.
	DefaultGrace = 30 * time.Second
	// DefaultStartTimeout leaves a cluster autoscaler the time to add a node,
	// which takes 1 to 4 minutes with the large clouds.
	DefaultStartTimeout = 10 * time.Minute
	// DefaultTTL keeps a finished job long enough to look at it, and not so long
	// that a day of CI fills the namespace.
	DefaultTTL = time.Hour
	// DefaultLinger is how long an ended attempt waits for somebody to store its
	// output: longer than the API server or a network is usually away, and than it
	// takes to come back to a laptop. Once all is stored nothing waits.
	DefaultLinger = 10 * time.Minute
	// UnfollowedLinger is the linger of a job whose output nobody is to fetch.
	UnfollowedLinger = time.Second
	// DefaultLogSpool holds minutes of a busy job's output, and is an amount that
	// a node's disk has.
	DefaultLogSpool = "1Gi"
)

// Values of Spec.LogOverflow besides "", which leaves it to whether somebody
// follows: the job waits for one who does or did until 5 minutes ago; else, and
// always if the job is detached, its oldest output is dropped.
const (
	OverflowBlock = contract.OverflowBlock // the job waits until its output is fetched
	OverflowDrop  = contract.OverflowDrop  // the oldest output makes room for the newest
)

// UserImage as Spec.User leaves the user to the image, or to the cluster: OpenShift
// gives every namespace uids of its own, and refuses any other. Root stays out.
const UserImage = "image"

// MaxNameLength is the longest job name: Kubernetes appends a dash and five
// characters for the Pod's name, which has to stay a label value of at most 63.
const MaxNameLength = 57

// MaxRetries keeps a mistake from running for a year: the cluster waits up to 6
// minutes between two attempts.
const MaxRetries = 1000

// Spec is what the user asked for. The zero value of every field but Command
// means the default. Secrets are in it by reference only: whoever may read the Job
// can read all of it.
type Spec struct {
	// Name of the job, a DNS label of at most MaxNameLength bytes.
	Name string `json:"name"`
	// Image of the job's container; empty means the worker's own image.
	Image string `json:"image,omitempty"`
	// Command and its arguments; at least one. A Job's annotation leaves it out, and Env:
	// they are in its Pod's template.
	Command []string `json:"command,omitempty"`
	// Env is added to the image's environment, in this order.
	Env []EnvVar `json:"env,omitempty"`
	// EnvFrom takes all keys of Secrets and ConfigMaps as variables.
	EnvFrom []EnvSource `json:"envFrom,omitempty"`
	// CPU and memory of the job's container, as they were named; Resources adds the defaults.
	CPU         *resource.Quantity `json:"cpu,omitempty"`
	CPULimit    *resource.Quantity `json:"cpuLimit,omitempty"`
	Memory      *resource.Quantity `json:"memory,omitempty"`
	MemoryLimit *resource.Quantity `json:"memoryLimit,omitempty"`
	// EphemeralStorage limits what the job writes to the node's disk; nil means
	// the provider's default.
	EphemeralStorage *resource.Quantity `json:"ephemeralStorage,omitempty"`
	// GPU is how many GPUs the job gets, of the kind that the provider names.
	GPU int32 `json:"gpu,omitempty"`
	// Workdir of the command; empty means the image's.
	Workdir string `json:"workdir,omitempty"`
	// User is UID or UID:GID of the command; empty means an ordinary user,
	// whatever the image says, and UserImage the image's own.
	User string `json:"user,omitempty"`
	// Timeout counts from the command's start; 0 means none.
	Timeout time.Duration `json:"timeout,omitempty"`
	// StartTimeout bounds the time from submission to the command's start.
	StartTimeout time.Duration `json:"startTimeout,omitempty"`
	// Retries is how often a failed attempt is followed by another.
	Retries int32 `json:"retries,omitempty"`
	// Grace is the time between SIGTERM and SIGKILL.
	Grace time.Duration `json:"grace,omitempty"`
	// TTL is how long the finished Job stays in the cluster.
	TTL time.Duration `json:"ttl,omitempty"`
	// Linger is how long an ended attempt waits for its output to be stored.
	Linger time.Duration `json:"linger,omitempty"`
	// EndCopied tells that it need not wait where nobody follows and the log of the job's
	// container has all of it.
	EndCopied bool `json:"endCopied,omitempty"`
	// MergeOutput gives the command one pipe for both streams.
	MergeOutput bool `json:"mergeOutput,omitempty"`
	// Stdin has the command read its input from whoever runs the job, who must be there for its
	// start. Otherwise its input is empty.
	Stdin bool `json:"stdin,omitempty"`
	// TTY has the command read its input from a terminal, and write all of its output there: that has one
	// stream. It needs Stdin.
	TTY bool `json:"tty,omitempty"`
	// Exec lets others run commands beside the job's, who have the certificate for that.
	Exec bool `json:"exec,omitempty"`
	// LogSpool caps the output that is kept on the Pod's own disk, 1Mi to 16Ti.
	LogSpool *resource.Quantity `json:"logSpool,omitempty"`
	// LogOverflow is what happens when LogSpool is full of output that nobody has
	// fetched: "", OverflowBlock or OverflowDrop.
	LogOverflow string `json:"logOverflow,omitempty"`
	// ContainerLogs copies the output to the log of the job's container, where
	// kubectl logs and the cluster's collectors look. That log is the kubelet's: it
	// is cut when it is rotated.
	ContainerLogs bool `json:"containerLogs,omitempty"`
	// Detached tells that nobody follows the job from its start.
	Detached bool `json:"detached,omitempty"`
}

// EnvVar is one variable of the command's environment.
type EnvVar struct {
	Name string `json:"name"`
	// Value is left out where it is empty, and where it is not for everybody to see.
	Value string `json:"value,omitempty"`
}

// EnvSource names a Secret or a ConfigMap; exactly one of the two is set.
type EnvSource struct {
	Secret    string `json:"secret,omitempty"`
	ConfigMap string `json:"configMap,omitempty"`
}

// SetDefaults fills in what is zero.
func (s *Spec) SetDefaults() {
	if s.Name == "" {
		s.Name = newName(s.Command)
	}
	if s.Grace == 0 {
		s.Grace = DefaultGrace
	}
	if s.StartTimeout == 0 {
		s.StartTimeout = DefaultStartTimeout
	}
	if s.TTL == 0 {
		s.TTL = DefaultTTL
	}
	if s.Linger == 0 {
		s.Linger = DefaultLinger
	}
	if s.LogSpool == nil {
		q := resource.MustParse(DefaultLogSpool)
		s.LogSpool = &q
	}
}

// RunLine returns the command line that runs the command again in the same image. {hodei} in it stands
// for the program's name.
func (s *Spec) RunLine() string {
	line := "{hodei} run"
	if s.Image != "" {
		line += " --image " + shell.Quote(s.Image)
	}
	return line + " -- " + shell.Line(s.Command)
}

// Validate returns the first thing wrong with s: a [FieldError], or an error with a hint in
// which there is one.
func (s *Spec) Validate() error {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return WrongField("command", "must be given")
	}
	if errs := validation.IsDNS1123Label(s.Name); len(errs) > 0 || len(s.Name) > MaxNameLength {
		return InvalidField("name", s.Name, "want lower-case letters, digits and dashes, at most %d of them", MaxNameLength)
	}
	for i, e := range s.Env {
		if errs := validation.IsEnvVarName(e.Name); len(errs) > 0 {
			return InvalidField(fmt.Sprintf("env[%d].name", i), e.Name, "not a variable's name")
		}
	}
	if err := s.checkTexts(); err != nil {
		return err
	}
	if err := s.checkSizes(); err != nil {
		return err
	}
	for i, e := range s.EnvFrom {
		name := e.Secret + e.ConfigMap
		if (e.Secret == "") == (e.ConfigMap == "") || len(validation.IsDNS1123Subdomain(name)) > 0 {
			return InvalidField(fmt.Sprintf("envFrom[%d]", i), name, "want secret/NAME or configmap/NAME")
		}
	}
	if _, _, err := ParseUser(s.User); err != nil {
		return err
	}
	for _, d := range []struct {
		path  string
		value time.Duration
	}{{"timeout", s.Timeout}, {"startTimeout", s.StartTimeout}, {"grace", s.Grace}, {"ttl", s.TTL}, {"linger", s.Linger}} {
		if d.value < 0 {
			return InvalidField(d.path, d.value, "must not be negative")
		}
	}
	if s.Retries < 0 || s.Retries > MaxRetries {
		return InvalidField("retries", s.Retries, "want 0 to %d", MaxRetries)
	}
	if err := s.checkTTY(); err != nil {
		return err
	}
	if err := s.checkResources(); err != nil {
		return err
	}
	switch s.LogOverflow {
	case "", OverflowBlock, OverflowDrop:
	default:
		return InvalidField("logOverflow", s.LogOverflow, "want %s or %s", OverflowBlock, OverflowDrop)
	}
	return nil
}

// checkTTY refuses what does not go with a terminal.
func (s *Spec) checkTTY() error {
	switch {
	case !s.TTY:
	case !s.Stdin:
		return WrongField("tty", "needs somebody who types: add -i")
	case s.MergeOutput:
		return WrongField("mergeOutput", "is not needed with a terminal, which has one stream")
	case s.Retries > 0:
		return WrongField("retries", "can't be had with a terminal: what was typed is not typed again")
	}
	return nil
}

// checkTexts refuses what Kubernetes can't carry, for the provider local too: a command
// is tried there to be run in a cluster.
func (s *Spec) checkTexts() error {
	for i, a := range s.Command {
		if err := checkText(fmt.Sprintf("command[%d]", i), a); err != nil {
			return err
		}
	}
	for i, e := range s.Env {
		if err := checkText(fmt.Sprintf("env[%d].value", i), e.Value); err != nil {
			return err
		}
	}
	if err := checkText("workdir", s.Workdir); err != nil {
		return err
	}
	return CheckImage("image", s.Image)
}

// CheckImage refuses what is no image's name for sure, with a [FieldError] of path; it
// may be empty. The container runtime knows the rest.
func CheckImage(path, image string) error {
	if !utf8.ValidString(image) || strings.ContainsFunc(image, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return InvalidField(path, image, "want REGISTRY/NAME:TAG, without spaces")
	}
	return nil
}

var userPattern = regexp.MustCompile(`^(\d{1,10})(?::(\d{1,10}))?$`)

// ParseUser splits UID or UID:GID; nil means not given, as in "" and UserImage. An error is a
// [FieldError] of user.
func ParseUser(s string) (uid, gid *int64, err error) {
	if s == "" || s == UserImage {
		return nil, nil, nil
	}
	m := userPattern.FindStringSubmatch(s)
	if m == nil {
		return nil, nil, InvalidField("user", s, "want UID or UID:GID, in numbers, or %s", UserImage)
	}
	number := func(s string) *int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil { // the empty one: the pattern lets nothing else through
			return nil
		}
		return &n
	}
	uid, gid = number(m[1]), number(m[2])
	for _, n := range []*int64{uid, gid} {
		if n != nil && *n > 1<<31-1 {
			return nil, nil, InvalidField("user", s, "an id is at most %d", 1<<31-1)
		}
	}
	return uid, gid, nil
}

// newName makes up a name for a job from its command: hodei-<command>-<5 chars>.
func newName(command []string) string {
	base := "job"
	if len(command) > 0 {
		if b := label(path.Base(command[0])); b != "" {
			base = b
		}
	}
	return "hodei-" + base + "-" + rand.String(5)
}

// label keeps of s what may stand in a DNS label, at most 20 bytes.
func label(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r == '-', r == '_', r == '.':
			return '-'
		}
		return -1
	}, s)
	if len(s) > 20 {
		s = s[:20]
	}
	return strings.Trim(s, "-")
}
