package submission

import (
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// InputNote is the note for a command that gets nothing of the bytes that wait on hodei's stdin; by is the command of
// hodei that has sent none.
func InputNote(by string) string {
	return "stdin is not empty, but the command reads an empty input; to send stdin to it: {hodei} " + by + " -i"
}

// InputWaits tells whether bytes wait on in, without reading them: a pipe that somebody has
// written to, or a file that is not at its end. A terminal, /dev/null and a silent inherited
// pipe are no input.
func InputWaits(in io.Reader) bool {
	file, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil {
		return false
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		at, err := file.Seek(0, io.SeekCurrent)
		return err == nil && at < info.Size()
	case mode&fs.ModeNamedPipe != 0: // at its end a socket would look as if bytes were waiting
		ready := []unix.PollFd{{Fd: int32(file.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, 0)
		return err == nil && n == 1 && ready[0].Revents&unix.POLLIN != 0
	}
	return false
}
