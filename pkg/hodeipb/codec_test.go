package hodeipb

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// cut makes buffers of size bytes each, as HTTP/2's frames do.
func cut(b []byte, size int) mem.BufferSlice {
	var s mem.BufferSlice
	for len(b) > size {
		s = append(s, mem.Copy(b[:size], mem.DefaultBufferPool()))
		b = b[size:]
	}
	return append(s, mem.Copy(b, mem.DefaultBufferPool()))
}

func batchOf(data string, records int) *FromAgent {
	b := &Batch{Offset: 1 << 40}
	for i := range records {
		b.Records = append(b.Records, &Record{Stream: Stream_STDOUT, StreamOffset: uint64(i) << 30, Length: uint32(i),
			TimeUnixNano: 1 << 60})
	}
	b.Data = []byte(data)
	return &FromAgent{Message: &FromAgent_Batch{Batch: b}}
}

// enclosed is m with the data beside it.
func enclosed(m *FromAgent) *Envelope {
	m = proto.CloneOf(m)
	e := &Envelope{Message: m}
	if b := m.GetBatch(); b != nil && len(b.Data) > 0 {
		e.Data = mem.BufferSlice{mem.SliceBuffer(b.Data[:len(b.Data)/2]), mem.SliceBuffer(b.Data[len(b.Data)/2:])}
		b.Data = nil
	}
	return e
}

// opened is what e stands for.
func opened(e *Envelope) *FromAgent {
	m := proto.CloneOf(e.Message)
	if b := m.GetBatch(); b != nil && e.Data.Len() > 0 {
		b.Data = e.Data.Materialize()
	}
	return m
}

func TestCodec(t *testing.T) {
	tests := []struct {
		name    string
		message *FromAgent
	}{
		{"empty", &FromAgent{}},
		{"state", &FromAgent{Message: &FromAgent_State{State: &State{Phase: Phase_RUNNING}}}},
		{"exit", &FromAgent{Message: &FromAgent_Exit{Exit: &ExitRecord{Code: -1, End: 1 << 63}}}},
		{"gap alone", batchOf("", 1)},
		{"empty batch", batchOf("", 0)},
		{"one byte", batchOf("x", 1)},
		{"a line", batchOf("hello\n", 1)},
		{"two bytes of length", batchOf(strings.Repeat("x", 200), 2)},
		{"full", batchOf(strings.Repeat("x", 64<<10), 3)},
		{"many records", batchOf(strings.Repeat("x", 64<<10), MaxBatchRecords)},
	}
	var codec Codec
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want, err := proto.Marshal(tt.message)
			if err != nil {
				t.Fatal(err)
			}
			got, err := codec.Marshal(enclosed(tt.message))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Materialize(), want) {
				t.Fatalf("encoded as %x, want %x", got.Materialize(), want)
			}
			for _, size := range []int{1, 2, 7, 100, 16 << 10, 1 << 20} {
				if len(want)/size > 10000 {
					continue
				}
				frames := cut(want, size)
				var e Envelope
				if err := codec.Unmarshal(frames, &e); err != nil {
					t.Fatalf("in frames of %d: %v", size, err)
				}
				frames.Free()
				if !proto.Equal(opened(&e), tt.message) {
					t.Errorf("in frames of %d: decoded %v", size, opened(&e))
				}
				if b := e.Message.GetBatch(); b != nil && b.Data != nil {
					t.Errorf("in frames of %d: data in the message", size)
				}
				e.Free()
			}
		})
	}
}

func TestCodecRefuses(t *testing.T) {
	var codec Codec
	twice := &Envelope{Message: batchOf("abc", 1), Data: mem.BufferSlice{mem.SliceBuffer("abc")}}
	if _, err := codec.Marshal(twice); err == nil {
		t.Error("encoded data in two places")
	}
	if err := codec.Unmarshal(cut([]byte("\x12\x05ab"), 2), &Envelope{}); err == nil {
		t.Error("decoded a torn message")
	}
	if err := codec.Unmarshal(nil, 5); err == nil {
		t.Error("decoded into a number")
	}
}

// TestBounds: what is too large is refused before it is decoded, however it is cut.
func TestBounds(t *testing.T) {
	marks := func(n int) *FromAgent {
		return &FromAgent{Message: &FromAgent_Hello{Hello: &Hello{Extent: &Extent{Marks: slices.Repeat([]*Mark{{}}, n)}}}}
	}
	exit := func(r *ExitRecord) *FromAgent { return &FromAgent{Message: &FromAgent_Exit{Exit: r}} }
	records := func(n int, data string) *FromAgent {
		return &FromAgent{Message: &FromAgent_Batch{Batch: &Batch{Records: slices.Repeat([]*Record{{}}, n), Data: []byte(data)}}}
	}
	full := strings.Repeat("x", MaxBatchBytes)
	for _, tt := range []struct {
		name    string
		message *FromAgent
		err     string
	}{
		{"marks", marks(MaxMarks), ""},
		{"too many marks", marks(maxParts), "a message of more than 1040 parts"},
		{"a long text", exit(&ExitRecord{Message: strings.Repeat("x", MaxHeadBytes-100)}), ""},
		{"a text that is too long", exit(&ExitRecord{Message: strings.Repeat("x", MaxHeadBytes)}),
			"a message of more than 65536 bytes besides output"},
		{"packed numbers", exit(&ExitRecord{Usage: &Usage{RunQueueWaits: make([]uint64, 5000)}}), "a message of more than 1040 parts"},
		{"probes", exit(&ExitRecord{Probes: slices.Repeat([]*Probe{{}}, 5000)}), "a message of more than 1040 parts"},
		{"a full batch", batchOf(full, MaxBatchRecords), ""},
		{"records without data", records(5000, ""), "a message of more than 1040 parts"},
		{"records with data", records(5000, "x"), "a message of more than 1040 parts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := proto.Marshal(tt.message)
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int{1000, 16 << 10, 2 << 20} {
				frames := cut(b, size)
				var e Envelope
				err := (Codec{}).Unmarshal(frames, &e)
				frames.Free()
				e.Free()
				if got := fmt.Sprint(err); got != cmp.Or(tt.err, "<nil>") {
					t.Errorf("in frames of %d: %v, want %q", size, err, tt.err)
				}
			}
		})
	}
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), make([]byte, MaxHeadBytes))
	if err := (Codec{}).Unmarshal(cut(unknown, 1<<20), &Envelope{}); err == nil {
		t.Error("an unknown field of any size was taken")
	}
}

// TestCodecOtherMessages checks that what is no envelope is protobuf's.
func TestCodecOtherMessages(t *testing.T) {
	var codec Codec
	want := &ToAgent{Message: &ToAgent_Ack{Ack: &Ack{Offset: 7, Exit: true}}}
	b, err := codec.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got ToAgent
	if err := codec.Unmarshal(b, &got); err != nil || !proto.Equal(&got, want) {
		t.Errorf("got %v, %v", &got, err)
	}
	if codec.Name() != "proto" {
		t.Errorf("name %q", codec.Name())
	}
}

// FuzzCodec holds the decoder against protobuf's own: the same messages, the same
// refusals, however the bytes are cut into buffers; and what was decoded can be
// encoded again.
func FuzzCodec(f *testing.F) {
	for _, m := range []*FromAgent{
		{}, batchOf("", 0), batchOf("hello\n", 2), batchOf(strings.Repeat("x", 300), 20),
		{Message: &FromAgent_Exit{Exit: &ExitRecord{Code: 1, Cause: "Error"}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint16(16))
		f.Add(append(b, b...), uint16(1000)) // the last of a oneof wins
	}
	f.Fuzz(func(t *testing.T, b []byte, size uint16) {
		var want FromAgent
		wantErr := proto.Unmarshal(b, &want)
		frames := cut(b, int(size)+1)
		defer frames.Free()
		var codec Codec
		var e Envelope
		err := codec.Unmarshal(frames, &e)
		if checkHead(b) != nil {
			if err == nil {
				t.Fatal("decoded more than is allowed")
			}
			return
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, protobuf says %v", err, wantErr)
		}
		if err != nil {
			return
		}
		got := opened(&e)
		if !proto.Equal(got, &want) {
			t.Fatalf("decoded %v, want %v", got, &want)
		}
		again, err := codec.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		// An envelope with data keeps nothing beside its batch.
		want.ProtoReflect().SetUnknown(nil)
		var back FromAgent
		if err := proto.Unmarshal(again.Materialize(), &back); err != nil {
			t.Fatal(err)
		}
		if back.ProtoReflect().SetUnknown(nil); !proto.Equal(&back, &want) {
			t.Fatalf("encoded again as %v", &back)
		}
		again.Free()
	})
}

// BenchmarkCodec encodes and decodes a full batch beside protobuf's own codec.
func BenchmarkCodec(b *testing.B) {
	const size = 64 << 10
	message := batchOf(strings.Repeat("x", size), 2)
	b.Run("protobuf", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			encoded, err := generic().Marshal(message)
			if err != nil {
				b.Fatal(err)
			}
			if err := generic().Unmarshal(encoded, new(FromAgent)); err != nil {
				b.Fatal(err)
			}
			encoded.Free()
		}
	})
	b.Run("envelope", func(b *testing.B) {
		data := message.GetBatch().Data
		head := proto.CloneOf(message)
		head.GetBatch().Data = nil
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			encoded, err := Codec{}.Marshal(&Envelope{Message: head, Data: mem.BufferSlice{mem.SliceBuffer(data)}})
			if err != nil {
				b.Fatal(err)
			}
			frames := append(mem.BufferSlice{mem.SliceBuffer(append(encoded[0].ReadOnlyData(), data[:16<<10]...))},
				mem.SliceBuffer(data[16<<10:]))
			var e Envelope
			if err := (Codec{}).Unmarshal(frames, &e); err != nil {
				b.Fatal(err)
			}
			e.Free()
			encoded.Free()
		}
	})
}
