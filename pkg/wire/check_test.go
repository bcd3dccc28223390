package wire

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// TestCut: what is only shown is cut, whoever sent it.
func TestCut(t *testing.T) {
	long := strings.Repeat("é", 60_000)
	r := &hodeipb.ExitRecord{Cause: long, Message: long, Probes: []*hodeipb.Probe{{Name: long, Absent: long}},
		Usage: &hodeipb.Usage{Source: long, OomVictim: &hodeipb.OOMVictim{Name: long}}}
	o := Outcome(r)
	if err := CheckExit(r); err != nil { // which cuts the cause, that is in the message alone
		t.Fatal(err)
	}
	for name, text := range map[string]string{"message": o.Message, "probe": o.Probes[0].Name, "absent": o.Probes[0].Absent,
		"source": o.Usage.Source, "victim": o.Usage.Memory.OOMVictim.Name, "cause": r.Cause} {
		if len(text) > maxTextBytes+len(" …") || !strings.HasSuffix(text, "é …") {
			t.Errorf("%s of %d bytes: %.20q", name, len(text), text)
		}
	}
	if o := Outcome(&hodeipb.ExitRecord{Cause: contract.CauseCompleted,
		Finished: &timestamppb.Timestamp{Seconds: math.MaxInt64}}); o.Cause != "Unknown" || o.Message != senseless {
		t.Errorf("%+v", o)
	}
}
