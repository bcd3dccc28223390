package certs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// markerFile is in every directory of [Generate], so that a directory that happens to be
// called certs is told from one that was made to sign for jobs.
const markerFile = ".hodei"

const markerText = "hodei uses this directory of certificates without being told to, because of this file.\n"

// Own reports whether to use a directory that nobody has named: [Generate] or a rotation wrote
// its files, it belongs to the user of this process, and nobody else may write there. A path
// that does not exist, is no directory or can't be looked into is not used, and neither is
// another program's directory.
//
// why says why a directory that looks as if it were meant is not used; it is "" for all others.
func Own(dir string) (own bool, why string) {
	has := func(names ...string) bool {
		for _, name := range names {
			if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
				return false
			}
		}
		return true
	}
	marker, err := os.Lstat(filepath.Join(dir, markerFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if has(caCertFile, serverCertFile, serverKeyFile, clientCertFile, clientKeyFile) {
			return false, fmt.Sprintf("it has no file %s, by which hodei knows its own", markerFile)
		}
		return false, ""
	case err != nil, !has(caCertFile) && !has(caKeyFile):
		return false, ""
	}
	at, err := os.Stat(dir)
	if err != nil {
		return false, ""
	}
	// Whoever else may write there chooses who signs for jobs.
	for _, info := range []fs.FileInfo{at, marker} {
		switch owner, ok := info.Sys().(*syscall.Stat_t); {
		case ok && int(owner.Uid) != os.Geteuid():
			return false, fmt.Sprintf("it belongs to user %d, and this is user %d", owner.Uid, os.Geteuid())
		case info.Mode().Perm()&0o002 != 0:
			return false, "everybody may write to it"
		}
	}
	return true, ""
}
