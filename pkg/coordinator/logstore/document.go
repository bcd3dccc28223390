package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/hodei-jobs/hodei/internal/atomicfile"
)

// MaxDocumentBytes bounds a document: a few hundred samples are 100 KiB, and 2 MiB
// if their agent means ill.
const MaxDocumentBytes = 4 << 20

// sealBytes is how much longer a document's file is than the document: magic 4, CRC-32C of the
// document 4.
const sealBytes = 4 + 4

// sealMagic stands behind a document; its last byte is the version. No JSON ends so.
var sealMagic = [4]byte{'H', 'L', 'D', 1}

// documentSuffix tells documents from what else is in a log's directory.
const documentSuffix = ".doc"

// SetDocument keeps b beside the output, under a name that is one for a file, in
// place of what was there; readers see the one or the other, also after a loss of power.
// It waits for the disk. The document goes with the log.
func (l *Log) SetDocument(name string, b []byte) error {
	if err := l.setDocument(name, b); err != nil {
		return fmt.Errorf("store document %q: %w", name, err)
	}
	return nil
}

func (l *Log) setDocument(name string, b []byte) error {
	if err := checkNames(name); err != nil {
		return err
	}
	if len(b) > MaxDocumentBytes {
		return fmt.Errorf("%d bytes, more than %d", len(b), MaxDocumentBytes)
	}
	l.documents.Lock()
	defer l.documents.Unlock()
	if err := l.inTurn(func() error { return nil }); err != nil {
		return err // another process may write under this name
	}
	path := filepath.Join(l.dir, name+documentSuffix)
	return atomicfile.WriteWhen(path, sealDocument(b), l.inTurn)
}

// inTurn does f in the writer's turn, unless the log can't be written to.
func (l *Log) inTurn(f func() error) error {
	l.writer <- struct{}{}
	defer l.unlockWriter()
	if err := l.writable(); err != nil {
		return err
	}
	return f()
}

// sealDocument adds the checksum to a document.
func sealDocument(b []byte) []byte {
	sealed := append(slices.Clip(b), sealMagic[:]...)
	return binary.LittleEndian.AppendUint32(sealed, crc32.Checksum(b, castagnoli))
}

// unsealDocument returns the document in a file. A file without a checksum is of an older
// version, or damaged at its end, which whoever decodes the document finds out.
func unsealDocument(b []byte) ([]byte, error) {
	n := len(b) - sealBytes
	if n < 0 || [4]byte(b[n:]) != sealMagic {
		return b, nil
	}
	if binary.LittleEndian.Uint32(b[n+len(sealMagic):]) != crc32.Checksum(b[:n], castagnoli) {
		return nil, errChecksum
	}
	return b[:n], nil
}

// Document gives what SetDocument has kept. The error is fs.ErrNotExist where there
// is none, and a *DamageError where it is not what was kept, as far as can be told.
func (s *Store) Document(k Key, name string) ([]byte, error) {
	b, err := s.document(k, name)
	if err != nil {
		return nil, fmt.Errorf("read document %q of attempt %q: %w", name, k.Attempt, err)
	}
	return b, nil
}

func (s *Store) document(k Key, name string) ([]byte, error) {
	dir, err := s.path(k)
	if err == nil {
		err = checkNames(name)
	}
	if err != nil {
		return nil, err
	}
	// A FIFO would be waited for before it can be seen that it is one.
	file, err := os.OpenFile(filepath.Join(dir, name+documentSuffix), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fs.ErrInvalid)
	}
	b, err := io.ReadAll(io.LimitReader(file, MaxDocumentBytes+sealBytes+1))
	if err != nil {
		return nil, asDamage(file.Name(), err)
	}
	if b, err = unsealDocument(b); err == nil && len(b) > MaxDocumentBytes {
		err = fmt.Errorf("more than %d bytes", MaxDocumentBytes)
	}
	if err != nil {
		return nil, &DamageError{File: file.Name(), Pos: -1, Reason: err.Error()}
	}
	return b, nil
}
