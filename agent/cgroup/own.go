package cgroup

import (
	"bytes"
	"strconv"
	"strings"
)

// Mount is where a container sees its cgroup.
const Mount = "/sys/fs/cgroup"

// Own tells that what is mounted at [Mount] shows a process its own cgroup and not
// one above it, such as the whole machine's where there is no container. mountinfo and
// cgroup are the contents of /proc/PID/mountinfo and /proc/PID/cgroup of that process
// (proc_pid_mountinfo(5), cgroups(7)), both read in its own namespaces. Own is false
// if nothing is mounted there that [Open] reads, and for anything that it can't make
// out.
//
// A process in the root of all cgroups is in its own: that one [Open] tells, by
// [ErrRoot].
func Own(mountinfo, cgroup []byte) bool {
	_, own := shown(mountinfo, cgroupPaths(cgroup))
	return own
}

// OwnV2 tells that besides being [Own] the process's cgroup of version 2 is its
// container's alone. Where the figures are version 1's, not every runtime makes one:
// the process is then in the root, or in the runtime's own, with all that is on the
// machine. It is believed to be the container's if it has the path of a hierarchy of
// version 1 that Own has seen, which in a cgroup namespace proves nothing.
func OwnV2(mountinfo, cgroup []byte) bool {
	paths := cgroupPaths(cgroup)
	seen, own := shown(mountinfo, paths)
	if !own {
		return false
	}
	path := paths[""]
	for point, m := range seen {
		if point == Mount && m.kind == "cgroup2" || m.kind == "cgroup" && m.root == path && path != "/" {
			return true
		}
	}
	return false
}

// shown gives what is mounted at Mount and is read, by the mount point, and whether
// all of it, and some, shows the cgroup at the process's paths.
func shown(mountinfo []byte, paths map[string]string) (shown map[string]mount, own bool) {
	shown = make(map[string]mount)
	others := make(map[string]bool) // mount points that show something else
	for line := range bytes.Lines(mountinfo) {
		m, ok := parseMount(string(line))
		if !ok {
			continue
		}
		name, below := strings.CutPrefix(m.point, Mount+"/")
		switch {
		case m.point == Mount:
			clear(shown) // it hides what was mounted before
			clear(others)
		case !below || strings.Contains(name, "/"):
			continue
		}
		if own, relevant := m.shows(paths); relevant || lookedInto(name) {
			shown[m.point] = m
			delete(others, m.point)
			if !own {
				others[m.point] = true
			}
		}
	}
	return shown, len(shown) > 0 && len(others) == 0
}

// lookedInto tells that Open looks into the directory of that name, whatever is mounted
// there.
func lookedInto(name string) bool {
	for controller := range strings.SplitSeq(name, ",") {
		if _, known := filesV1[controller]; known {
			return true
		}
	}
	return name == unified
}

// mount is a line of mountinfo.
type mount struct {
	root    string // the directory of the file system that is mounted
	point   string // where
	kind    string // the file system
	options string // its own, of which version 1's name the controllers
}

// parseMount reads "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELD...] - TYPE
// SOURCE OPTIONS".
func parseMount(line string) (mount, bool) {
	own, fs, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
	if !ok {
		return mount{}, false
	}
	left, right := strings.Fields(own), strings.Fields(fs)
	if len(left) < 6 || len(right) < 2 {
		return mount{}, false
	}
	return mount{
		root:    unescape(left[3]),
		point:   unescape(left[4]),
		kind:    right[0],
		options: right[len(right)-1],
	}, true
}

// shows tells whether the mount shows the cgroup at the process's path in that
// hierarchy, and whether the hierarchy has anything that is read here.
func (m mount) shows(paths map[string]string) (own, relevant bool) {
	switch m.kind {
	case "cgroup2":
		path, ok := paths[""]
		return ok && path == m.root, true
	case "cgroup":
		for option := range strings.SplitSeq(m.options, ",") {
			if _, known := filesV1[option]; known {
				path, ok := paths[option]
				return ok && path == m.root, true
			}
		}
	}
	return false, false
}

// cgroupPaths reads lines "HIERARCHY:CONTROLLERS:PATH" into the path by
// controller; version 2's has no name.
func cgroupPaths(b []byte) map[string]string {
	paths := make(map[string]string)
	for line := range bytes.Lines(b) {
		_, rest, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":")
		if !ok {
			continue
		}
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		for controller := range strings.SplitSeq(controllers, ",") {
			paths[controller] = path
		}
	}
	return paths
}

// unescape undoes mountinfo's \ooo, with which it writes spaces, tabs, ends of lines
// and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
