package agent

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// greatestUsage has every figure, at its greatest.
func greatestUsage(t *testing.T) *hodeipb.Usage {
	t.Helper()
	u := &hodeipb.Usage{}
	fill(u.ProtoReflect())
	u.Source = "cgroup2+ebpf"
	u.OomVictim.Name = strings.Repeat("é", 7) + "x"
	for range 25 {
		u.RunQueueWaits = append(u.RunQueueWaits, math.MaxUint64)
	}
	if u.CpuNs == nil || u.NetIpv6 == nil || u.NetIpv6.TransmitPackets == 0 {
		t.Fatal("a figure is missing:", u)
	}
	return u
}

// fill sets all numbers of a message, and of those in it.
func fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		switch f := fields.Get(i); {
		case f.IsList():
		case f.Kind() == protoreflect.MessageKind:
			fill(m.Mutable(f).Message())
		case f.Kind() == protoreflect.Uint64Kind:
			m.Set(f, protoreflect.ValueOfUint64(math.MaxUint64))
		case f.Kind() == protoreflect.Uint32Kind:
			m.Set(f, protoreflect.ValueOfUint32(math.MaxUint32))
		case f.Kind() == protoreflect.BoolKind:
			m.Set(f, protoreflect.ValueOfBool(true))
		}
	}
}

func TestRecordText(t *testing.T) {
	probes := func(text string) []*hodeipb.Probe {
		var p []*hodeipb.Probe
		for _, name := range []string{"network", "stats", "oom", "runqueue"} {
			p = append(p, &hodeipb.Probe{Name: name, Absent: text})
		}
		return p
	}
	const cause = "memory reached its limit of 512Mi; the kernel killed python (498Mi)"
	tests := []struct {
		name    string
		message string
		probes  []*hodeipb.Probe
		usage   bool
		// What must still be there.
		keepsMessage, keepsUsage, keepsProbes, keepsWaits bool
	}{
		{name: "little", message: cause, keepsMessage: true},
		{name: "all that usually is", message: cause, probes: probes(""), usage: true, keepsMessage: true, keepsUsage: true,
			keepsProbes: true, keepsWaits: true},
		{name: "absent parts", message: cause, probes: probes(strings.Repeat("r", 400)), usage: true, keepsMessage: true, keepsUsage: true,
			keepsProbes: true},
		{name: "a long message", message: strings.Repeat("ü", handover.MaxPacket/2), probes: probes("why"), usage: true, keepsUsage: true},
		{name: "a long message, and no figures", message: strings.Repeat("x", 3*handover.MaxPacket)},
		{name: "a message of quotes", message: strings.Repeat(`"`, handover.MaxPacket), usage: true, keepsUsage: true},
		{name: "a message of control characters", message: strings.Repeat("\x01", handover.MaxPacket),
			probes: probes(strings.Repeat("\x01", 400)),
			usage:  true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := &hodeipb.ExitRecord{
				Code: 255, Signal: 64, Cause: contract.CauseDeadlineExceeded, Message: test.message,
				End: math.MaxUint64, StdoutEnd: math.MaxUint64, StderrEnd: math.MaxUint64, Lost: math.MaxUint64, PipesHeld: true,
				Started:  &timestamppb.Timestamp{Seconds: 253402300799, Nanos: 999999999},
				Finished: &timestamppb.Timestamp{Seconds: 253402300799, Nanos: 999999999},
				Probes:   test.probes,
			}
			if test.usage {
				r.Usage = greatestUsage(t)
			}
			before := protojson.Format(r)
			text, err := recordText(r, contract.MessageBytes)
			if err != nil {
				t.Fatal(err)
			}
			if protojson.Format(r) != before {
				t.Error("the record itself was changed")
			}
			got := &hodeipb.ExitRecord{}
			if err := protojson.Unmarshal(text, got); err != nil || !json.Valid(text) || len(text) > contract.MessageBytes {
				t.Fatalf("%d bytes: %v\n%s", len(text), err, text)
			}
			if got.Code != r.Code || got.Cause != r.Cause || got.End != r.End || got.Message == "" || !utf8.ValidString(got.Message) {
				t.Errorf("got %v", got)
			}
			if kept := got.Message == r.Message; kept != test.keepsMessage {
				t.Errorf("message kept: %t, of %d bytes %d", kept, len(r.Message), len(got.Message))
			}
			if kept := got.Usage.GetCpuNs() > 0; kept != test.keepsUsage {
				t.Errorf("usage kept: %t", kept)
			}
			if kept := len(got.Probes) > 0; kept != test.keepsProbes {
				t.Errorf("probes kept: %t", kept)
			}
			if kept := len(got.Usage.GetRunQueueWaits()) > 0; kept != test.keepsWaits {
				t.Errorf("waits kept: %t", kept)
			}
		})
	}
	t.Run("no room at all", func(t *testing.T) {
		if text, err := recordText(&hodeipb.ExitRecord{End: 1}, 4); err == nil {
			t.Errorf("%s in 4 bytes", text)
		}
	})
}
