package cgroup

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Leave closes files, by the names that Files gives, for whoever has their figures
// from elsewhere: they are absent from now on.
func (r *Reader) Leave(names ...string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources = slices.DeleteFunc(r.sources, func(s source) bool {
		left := slices.Contains(names, s.path)
		if left {
			unix.Close(s.fd)
		}
		return left
	})
}
