package run

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/kubectl/pkg/scheme"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// noteChoices says what was left out of the command line, and what is to be known of the authority.
func (o *Options) noteChoices(now time.Time) {
	for _, name := range o.Unset {
		o.Screen.Note("-e " + name + ": it is not set here, and is left out")
	}
	for _, note := range o.authorityNotes(now) {
		o.Screen.Note(note)
	}
}

// authorityNotes say where the CA is from, whether it ends soon, and whether others may read
// its key.
func (o *Options) authorityNotes(now time.Time) []string {
	notes := slices.Clone(o.AuthorityNotes)
	if soon := certs.EndsSoon(o.Authority.Cert, now); soon != "" {
		notes = append(notes, fmt.Sprintf("the CA that signs for jobs ends at %s; to replace it: {hodei} certs rotate --ca%s",
			soon, place.DirFlag(o.Authority.Dir)))
	}
	if exposed := o.Authority.Exposed(); exposed != "" {
		notes = append(notes, exposed+"; to mend it: chmod 600 "+shell.Quote(filepath.Join(o.Authority.Dir, "ca.key")))
	}
	return notes
}

// noteInput says that the command does not get the bytes that wait on stdin.
func (o *Options) noteInput() error {
	if o.Spec.Stdin || !inputWaits(o.In) {
		return nil
	}
	return o.Note(o.Named(noInput))
}

// noTunnel is the note, once there is a job, that its output does not come through the tunnel.
const noTunnel = "the tunnel is forbidden (create pods/portforward): following the container's log instead"

// noteWay says which way the output comes, if not as usual.
func (o *Options) noteWay(fallback bool) {
	if fallback && o.Follow {
		o.Screen.Note(noTunnel)
	}
}

// detached says what was left running.
func (o *Options) detached() error {
	if o.Format == "" {
		fmt.Fprintln(o.Out, o.Spec.Name)
		return nil
	}
	return o.printManifest(o.Format)
}

// printManifest writes the Job as kubectl would, in o's format, or another if it has none.
func (o *Options) printManifest(other string) error {
	manifest, err := o.Place.(place.Cluster).Manifest(o.Spec)
	if err != nil {
		return err
	}
	format := cmp.Or(o.Format, other)
	flags := genericclioptions.NewPrintFlags("").WithTypeSetter(scheme.Scheme).WithDefaultOutput(format)
	printer, err := command.NewPrinter(flags.OutputFormat, flags.ToPrinter)
	if err != nil {
		return err
	}
	return printer.PrintObj(manifest, o.Out)
}
