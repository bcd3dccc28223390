// Package setup puts what jobs need into a cluster and takes it out again: it is what
// hodei install and hodei uninstall do. Start with [NewClient]. An [Installer] plans,
// applies, prunes and waits; an [Uninstaller] finds, removes and waits.
//
// The package returns values and errors with hints, and reports what it has done through
// callbacks. It reads no flags, prints nothing, and does not say what is installed: that
// is package deploy.
package setup

// FieldManager is the name under which the API server records which fields hodei has
// set. install.sh uses the same, so that either can follow the other.
const FieldManager = "hodei"

// Hints are the hints of errors. Their commands repeat the flags that the user typed. {hodei} in them stands for the
// program's name.
type Hints struct {
	// Again does the same once more.
	Again string
	// ByAdministrator is the whole hint for a caller who lacks rights.
	ByAdministrator string
	// Conflict is the whole hint for fields that somebody else has set. If labels of Pod Security are among them,
	// Profile comes before it, unless it is empty. Only an Installer meets conflicts.
	Conflict, Profile string
}
