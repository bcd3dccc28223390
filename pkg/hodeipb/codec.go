package hodeipb

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Envelope is a FromAgent on its way through gRPC. The data of a batch lie beside
// the message, in buffers that nobody copies: [Codec] puts them behind the rest,
// which is where a protobuf encoder would have put them. On the wire there is no
// difference.
type Envelope struct {
	Message *FromAgent
	// Data is that of Message's batch, whose own field is empty; nil for any other
	// message. Who sends an envelope gives its reference away, who receives one has
	// a reference to [Envelope.Free].
	Data mem.BufferSlice
}

// Free lets go of the data.
func (e *Envelope) Free() {
	e.Data.Free()
	e.Data = nil
}

// Codec is what both sides give to gRPC instead of its own codec for protobuf:
// it takes an *Envelope as well as any proto.Message. It goes by the same name,
// because it speaks the same language.
type Codec struct{}

// Name is that of protobuf.
func (Codec) Name() string { return grpcproto.Name }

// generic is gRPC's own codec.
func generic() encoding.CodecV2 { return encoding.GetCodecV2(grpcproto.Name) }

// Numbers of the fields that are written and read here; see worker.proto.
const (
	batchField   = 2  // of FromAgent
	recordsField = 2  // of Batch
	dataField    = 15 // of Batch
	batchName    = "Batch"
)

// Marshal encodes an *Envelope or a proto.Message.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *ToAgent:
		if in := m.GetInput(); in != nil {
			return encodeInput(inputField, in), nil
		}
	case *ExecToAgent:
		if in := m.GetInput(); in != nil {
			return encodeInput(execInputField, in), nil
		}
	}
	e, ok := v.(*Envelope)
	if !ok {
		return generic().Marshal(v)
	}
	batch := e.Message.GetBatch()
	n := e.Data.Len()
	if batch == nil || n == 0 {
		e.Free()
		return generic().Marshal(e.Message)
	}
	if len(batch.Data) > 0 {
		return nil, fmt.Errorf("encode a batch with data in two places")
	}
	records := proto.Size(batch)
	inner := records + protowire.SizeTag(dataField) + protowire.SizeBytes(n) // with its length
	head := make([]byte, 0, protowire.SizeTag(batchField)+protowire.SizeBytes(inner)-n)
	head = protowire.AppendTag(head, batchField, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(inner))
	head, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(head, batch)
	if err != nil {
		return nil, err
	}
	head = protowire.AppendTag(head, dataField, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(n))
	slices := append(mem.BufferSlice{mem.SliceBuffer(head)}, e.Data...)
	e.Data = nil // gRPC's now
	return slices, nil
}

// Unmarshal decodes into an *Envelope or a proto.Message. What goes into an envelope is
// an agent's: beyond MaxHeadBytes besides output it is refused and not decoded.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *ToAgent:
		if in := decodeInput(inputField, data); in != nil {
			m.Message = &ToAgent_Input{Input: in}
			return nil
		}
	case *ExecToAgent:
		if in := decodeInput(execInputField, data); in != nil {
			m.Message = &ExecToAgent_Input{Input: in}
			return nil
		}
	}
	e, ok := v.(*Envelope)
	if !ok {
		return generic().Unmarshal(data, v)
	}
	if ok, err := e.open(data); ok || err != nil {
		return err
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	if err := checkHead(whole.ReadOnlyData()); err != nil {
		return err
	}
	e.Message = &FromAgent{}
	if err := proto.Unmarshal(whole.ReadOnlyData(), e.Message); err != nil {
		return err
	}
	e.Data = nil
	if batch := e.Message.GetBatch(); batch != nil && len(batch.Data) > 0 {
		e.Data = mem.BufferSlice{mem.SliceBuffer(batch.Data)}
		batch.Data = nil
	}
	return nil
}

// open takes a message apart that has the usual form: a batch, its data last, and
// all that comes before the data in the first buffer. For any other it returns
// false, and the message, if it is one, is decoded as a whole.
func (e *Envelope) open(data mem.BufferSlice) (ok bool, err error) {
	if len(data) == 0 {
		return false, nil
	}
	total := data.Len()
	first := data[0].ReadOnlyData()
	number, kind, n := protowire.ConsumeTag(first)
	if n < 0 || number != batchField || kind != protowire.BytesType {
		return false, nil
	}
	at := n
	size, n := protowire.ConsumeVarint(first[at:])
	if n < 0 {
		return false, nil
	}
	if at += n; size != uint64(total-at) {
		return false, nil
	}
	begin := at
	for h := (head{parts: 1}); ; {
		number, kind, n := protowire.ConsumeTag(first[at:])
		if n < 0 {
			return false, nil
		}
		if number != dataField || kind != protowire.BytesType {
			value := protowire.ConsumeFieldValue(number, kind, first[at+n:])
			if value < 0 {
				return false, nil
			}
			if at += n + value; number == recordsField {
				h.parts++
			}
			if h.bytes = at; h.check() != nil {
				return false, h.check()
			}
			continue
		}
		end := at
		size, m := protowire.ConsumeVarint(first[at+n:])
		if m < 0 {
			return false, nil
		}
		if at += n + m; size == 0 || size != uint64(total-at) {
			return false, nil
		}
		batch := &Batch{}
		if err := proto.Unmarshal(first[begin:end], batch); err != nil {
			return false, nil //nolint:nilerr // the whole message is read then, and its error told
		}
		e.Message = &FromAgent{Message: &FromAgent_Batch{Batch: batch}}
		e.Data = behind(data, at)
		return true, nil
	}
}

// behind gives data without its first n bytes, with references of its own.
func behind(data mem.BufferSlice, n int) mem.BufferSlice {
	rest := make(mem.BufferSlice, 0, len(data))
	for _, b := range data {
		if n >= b.Len() {
			n -= b.Len()
			continue
		}
		rest = append(rest, b.Slice(n, b.Len()))
		n = 0
	}
	return rest
}
