package hodeipb

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func inputTo(in *Input) *ToAgent { return &ToAgent{Message: &ToAgent_Input{Input: in}} }

func TestInput(t *testing.T) {
	tests := []struct {
		name  string
		input *Input
	}{
		{"empty", &Input{}},
		{"its end alone", &Input{Offset: 1 << 40, Complete: true}},
		{"a byte", &Input{Data: []byte("x")}},
		{"the last one", &Input{Offset: 300, Data: []byte("x"), Complete: true}},
		{"a full piece", &Input{Offset: 1<<64 - 1, Data: bytes.Repeat([]byte("x"), MaxInputBytes)}},
	}
	var codec Codec
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, message := range []proto.Message{
				inputTo(tt.input), &ExecToAgent{Message: &ExecToAgent_Input{Input: tt.input}},
			} {
				want, err := proto.Marshal(message)
				if err != nil {
					t.Fatal(err)
				}
				got, err := codec.Marshal(message)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Materialize(), want) {
					t.Errorf("%T is encoded in another way than by protobuf", message)
				}
				for _, size := range []int{1, 7, 16 << 10, MaxInputBytes + 100} {
					if len(want) > 1000*size {
						continue
					}
					decoded := message.ProtoReflect().New().Interface()
					if err := codec.Unmarshal(cut(want, size), decoded); err != nil {
						t.Fatal(err)
					}
					if !proto.Equal(decoded, message) {
						t.Errorf("%T in buffers of %d bytes is another one", message, size)
					}
				}
			}
		})
	}
}

// FuzzInput checks that what is decoded without protobuf is what protobuf decodes.
func FuzzInput(f *testing.F) {
	for _, message := range []*ToAgent{
		inputTo(&Input{Offset: 5, Data: []byte("data"), Complete: true}), inputTo(&Input{Data: []byte("x")}), inputTo(&Input{Offset: 1}),
		{Message: &ToAgent_Ack{Ack: &Ack{Offset: 3}}},
	} {
		b, err := proto.Marshal(message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint8(3))
		f.Add(append(b, b...), uint8(100))
		f.Add(append(b, protowire.AppendTag(nil, 99, protowire.VarintType)...), uint8(100))
	}
	f.Fuzz(func(t *testing.T, message []byte, size uint8) {
		got := &ToAgent{}
		err := Codec{}.Unmarshal(cut(message, int(size)+1), got)
		want := &ToAgent{}
		if e := proto.Unmarshal(message, want); (e == nil) != (err == nil) {
			t.Fatalf("error %v, protobuf's %v", err, e)
		}
		if err == nil && !proto.Equal(got, want) {
			t.Fatalf("%v, protobuf's %v", got, want)
		}
	})
}
