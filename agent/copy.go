package agent

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// copyWait bounds the copy: the kubelet waits for the hook that calls it, and
// can't even delete the Pod meanwhile.
const copyWait = 10 * time.Second

// Copy copies the running program to path, mode 0555, by way of a temporary
// name: whoever finds path finds all of it. It takes at most 10 s.
func Copy(path string) error {
	done := make(chan error, 1)
	go func() { done <- copySelf(path) }()
	select {
	case err := <-done:
		return err
	case <-time.After(copyWait):
		return fmt.Errorf("copy to %s: not done after %s", path, copyWait)
	}
}

func copySelf(path string) (err error) {
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.CreateTemp(filepath.Dir(path), ".copy-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			dst.Close()
			os.Remove(dst.Name())
		}
	}()
	if _, err = io.Copy(dst, src); err != nil {
		return err
	}
	if err = dst.Chmod(0o555); err != nil {
		return err
	}
	if err = dst.Close(); err != nil {
		return err
	}
	return os.Rename(dst.Name(), path)
}
