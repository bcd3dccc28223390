package hodeipb

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Bounds of what an agent may send. A coordinator refuses what is larger before it
// decodes it: a message of empty parts takes fifty times as much memory as on the wire.
const (
	// MaxBatchBytes is the most data of a batch, decoded.
	MaxBatchBytes   = 1 << 20
	MaxBatchRecords = 1024
	// MaxHeadBytes is a message without the data of a batch. The longest are a batch's
	// records, at most 40 bytes each, and a hello with its marks, some 6 KiB.
	MaxHeadBytes = 64 << 10
	// maxParts is how many messages and list elements may be inside a message: a batch
	// and its records. A hello has 256 marks.
	maxParts = MaxBatchRecords + 16
	// 256 marks take 5 KiB of a Hello; in a 1 GiB spool they are 4 MiB apart, the most that
	// --since over-fetches.
	MaxMarks = 256
)

// Bounds of a job's input.
const (
	// InputWindow is the most input, in bytes, that is sent and not acknowledged. Both sides hold so
	// much. Through the API server's tunnel, 4 MiB are what keeps a connection busy.
	InputWindow = 4 << 20
	// MaxInputBytes is the most data of one Input. Orders to the agent wait no longer than it takes
	// to send one.
	MaxInputBytes = 256 << 10
	// MaxClientBytes is the longest Welcome.client.
	MaxClientBytes = 64
)

// Bounds of a command that runs beside the job's.
const (
	// ExecInputWindow is as InputWindow: an agent may have several such commands, in little memory.
	ExecInputWindow = 512 << 10
	// MaxExecOutputBytes is the most data of one ExecOutput.
	MaxExecOutputBytes = 64 << 10
	// MaxExecBytes is the most that an ExecStart has of arguments, variables and directory.
	MaxExecBytes = 1 << 20
	// MaxExecMessageBytes is the longest ExecFromAgent.
	MaxExecMessageBytes = MaxExecOutputBytes + 1<<10
)

// head is what a message holds besides the data of a batch.
type head struct{ bytes, parts int }

// checkHead says what keeps an encoded FromAgent from being decoded: its size. What is
// no message at all is left to the decoder.
func checkHead(b []byte) error {
	var h head
	h.count((*FromAgent)(nil).ProtoReflect().Descriptor(), b)
	return h.check()
}

func (h *head) check() error {
	switch {
	case h.bytes > MaxHeadBytes:
		return fmt.Errorf("a message of more than %d bytes besides output", MaxHeadBytes)
	case h.parts > maxParts:
		return fmt.Errorf("a message of more than %d parts", maxParts)
	}
	return nil
}

// count adds what an encoded message holds, as far as it can be read.
func (h *head) count(message protoreflect.MessageDescriptor, b []byte) {
	for len(b) > 0 && h.check() == nil {
		number, kind, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return
		}
		value := protowire.ConsumeFieldValue(number, kind, b[tag:])
		if value < 0 {
			return
		}
		field := message.Fields().ByNumber(number)
		if field != nil && number == dataField && field.ContainingMessage().Name() == batchName {
			h.bytes += tag
		} else {
			h.add(field, kind, tag, b[tag:tag+value])
		}
		b = b[tag+value:]
	}
}

// add counts one field, whose value is encoded; field is nil for one that is unknown.
func (h *head) add(field protoreflect.FieldDescriptor, kind protowire.Type, tag int, value []byte) {
	switch {
	case field == nil || kind != protowire.BytesType:
		if field != nil && field.IsList() {
			h.parts++
		}
	case field.Kind() == protoreflect.MessageKind:
		h.parts++
		inside, n := protowire.ConsumeBytes(value)
		h.bytes += tag + n - len(inside)
		h.count(field.Message(), inside)
		return
	case field.IsList(): // packed numbers, of a byte or more
		inside, _ := protowire.ConsumeBytes(value)
		for _, c := range inside {
			if c < 0x80 {
				h.parts++
			}
		}
	}
	h.bytes += tag + len(value)
}
