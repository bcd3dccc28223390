package hodeipb

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields of input; see worker.proto.
const (
	inputField     = 4 // of ToAgent
	execInputField = 2 // of ExecToAgent
	offsetField    = 1 // of Input
	completeField  = 2
)

// encodeInput encodes an input as field number of a message. Its data is not copied, so nobody may write to it any more.
// gRPC's own codec takes a buffer of 1 MiB for what is longer than 32 KiB, and clears all of it, which cost a seventh of
// what sending took.
func encodeInput(number protowire.Number, in *Input) mem.BufferSlice {
	inner := make([]byte, 0, 32)
	if in.Offset != 0 {
		inner = protowire.AppendVarint(protowire.AppendTag(inner, offsetField, protowire.VarintType), in.Offset)
	}
	if in.Complete {
		inner = protowire.AppendVarint(protowire.AppendTag(inner, completeField, protowire.VarintType), 1)
	}
	if len(in.Data) > 0 {
		inner = protowire.AppendVarint(protowire.AppendTag(inner, dataField, protowire.BytesType), uint64(len(in.Data)))
	}
	head := protowire.AppendTag(make([]byte, 0, 48), number, protowire.BytesType)
	head = append(protowire.AppendVarint(head, uint64(len(inner)+len(in.Data))), inner...)
	message := mem.BufferSlice{mem.SliceBuffer(head)}
	if len(in.Data) > 0 {
		message = append(message, mem.SliceBuffer(in.Data))
	}
	return message
}

// decodeInput takes a message apart whose only field is number, an input as encodeInput makes it, with all that is not
// data in the first buffer. Any other message is nil.
func decodeInput(number protowire.Number, data mem.BufferSlice) *Input {
	if len(data) == 0 {
		return nil
	}
	total := data.Len()
	first := data[0].ReadOnlyData()
	at := 0
	// length consumes the tag of a field and the length of its value, which is the rest of the message.
	length := func(field protowire.Number) bool {
		got, kind, n := protowire.ConsumeTag(first[at:])
		if n < 0 || got != field || kind != protowire.BytesType {
			return false
		}
		size, m := protowire.ConsumeVarint(first[at+n:])
		if m < 0 || size != uint64(total-at-n-m) {
			return false
		}
		at += n + m
		return true
	}
	// varint consumes a number if it is there.
	varint := func(field protowire.Number) (value uint64) {
		got, kind, n := protowire.ConsumeTag(first[at:])
		if n < 0 || got != field || kind != protowire.VarintType {
			return 0
		}
		value, m := protowire.ConsumeVarint(first[at+n:])
		if m >= 0 {
			at += n + m
		}
		return value
	}
	if !length(number) {
		return nil
	}
	in := &Input{Offset: varint(offsetField), Complete: varint(completeField) != 0}
	if !length(dataField) || at == total {
		return nil
	}
	rest := behind(data, at)
	defer rest.Free()
	in.Data = rest.Materialize()
	return in
}
