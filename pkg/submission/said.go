package submission

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// noteChoices says what was left out of the command line, and what is to be known of the authority.
func (c *Config) noteChoices(now time.Time) {
	for _, name := range c.Unset {
		c.Screen.Note(UnsetNote(name))
	}
	for _, note := range c.authorityNotes(now) {
		c.Screen.Note(note)
	}
}

// authorityNotes say where the CA is from, whether it ends soon, and whether others may read
// its key.
func (c *Config) authorityNotes(now time.Time) []string {
	notes := slices.Clone(c.AuthorityNotes)
	if soon := certs.EndsSoon(c.Authority.Cert, now); soon != "" {
		notes = append(notes, fmt.Sprintf("the CA that signs for jobs ends at %s; to replace it: {hodei} certs rotate --ca%s",
			soon, place.DirFlag(c.Authority.Dir)))
	}
	if exposed := c.Authority.Exposed(); exposed != "" {
		notes = append(notes, exposed+"; to mend it: chmod 600 "+shell.Quote(filepath.Join(c.Authority.Dir, "ca.key")))
	}
	return notes
}

// noteInput says that the command does not get the bytes that wait on stdin.
func (c *Config) noteInput() error {
	if c.Spec.Stdin || !InputWaits(c.In) {
		return nil
	}
	return c.Note(InputNote("run"))
}

// noTunnel is the note, once there is a job, that its output does not come through the tunnel.
const noTunnel = "the tunnel is forbidden (create pods/portforward): following the container's log instead"

// noteWay says which way the output comes, if not as usual.
func (c *Config) noteWay(fallback bool) {
	if fallback && c.Follow {
		c.Screen.Note(noTunnel)
	}
}

// UnsetNote is the note for a variable that was to be taken from here and is not set.
func UnsetNote(name string) string { return "-e " + name + ": it is not set here, and is left out" }
