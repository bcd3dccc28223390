package rogue

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// attack is something that a rogue agent does to a coordinator. It ends by itself, also
// where the coordinator stops to listen.
type attack struct {
	name string
	run  func(context.Context, *agent)
	// told is what hodei run says of it, once; empty: nothing need be said.
	told string
	// last is left as the container's message; empty: that all went well.
	last string
}

// start makes the attack, for attackWait at most.
func (k *attack) start(ctx context.Context, a *agent) {
	ctx, cancel := context.WithTimeout(ctx, attackWait)
	defer cancel()
	k.run(ctx, a)
}

var attacks = []attack{
	{name: "twins", run: twins},
	{name: "marks", run: marks, told: "a message of more than 1040 parts"},
	{name: "parts", run: parts, told: "a message of more than 1040 parts"},
	{name: "states", run: states},
	{name: "uids", run: uids, told: "attempt uids was dialled, but its agent says it is uids-0"},
	{name: "names", run: names, told: "a message of more than 65536 bytes besides output"},
	{name: "times", run: times, last: `{"cause":"Completed","started":"0001-01-01T00:00:00Z","finished":"9999-12-31T23:59:59Z"}`},
	{name: "texts", run: texts, last: `{"cause":"Error","code":1,"message":"` + strings.Repeat("x", 3000) + `"}`},
	{name: "samples", run: samples},
	{name: "offsets", run: offsets},
	{name: "lengths", run: lengths},
	{name: "bombs", run: bombs},
	{name: "streams", run: streams},
	{name: "headers", run: headers},
	{name: "garbage", run: garbage},
}

func batch(offset uint64, data string) *hodeipb.FromAgent {
	return &hodeipb.FromAgent{Message: &hodeipb.FromAgent_Batch{Batch: &hodeipb.Batch{Offset: offset, Data: []byte(data),
		Records: []*hodeipb.Record{{Stream: hodeipb.Stream_STDOUT, StreamOffset: offset, Length: uint32(len(data))}}}}}
}

func exit(r *hodeipb.ExitRecord) *hodeipb.FromAgent {
	return &hodeipb.FromAgent{Message: &hodeipb.FromAgent_Exit{Exit: r}}
}

func metrics(m *hodeipb.Metrics) *hodeipb.FromAgent {
	return &hodeipb.FromAgent{Message: &hodeipb.FromAgent_Metrics{Metrics: m}}
}

func state(s *hodeipb.State) *hodeipb.FromAgent {
	return &hodeipb.FromAgent{Message: &hodeipb.FromAgent_State{State: s}}
}

// atOnce does something n times side by side.
func atOnce(n int, do func(i int)) {
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() { do(i) })
	}
	work.Wait()
}

// twins are four attempts of one name, each with samples and output.
func twins(ctx context.Context, a *agent) {
	began := time.Now()
	atOnce(4, func(i int) {
		conn := a.dial()
		defer conn.Close()
		hello := a.hello()
		hello.AttemptUid = fmt.Sprint("twin-", i)
		s, ok := attach(ctx, conn, hello)
		if !ok || !s.welcomed() {
			return
		}
		go s.end() // its acks
		for n := range 5000 {
			at := timestamppb.New(began.Add(time.Duration(n*4+i) * time.Millisecond))
			if !s.tell(metrics(&hodeipb.Metrics{Time: at, Usage: &hodeipb.Usage{}})) {
				return
			}
		}
	})
}

// marks are eight hellos of a MiB at once, full of empty marks.
func marks(ctx context.Context, a *agent) {
	hello := a.hello()
	hello.Extent.Marks = slices.Repeat([]*hodeipb.Mark{{}}, 500_000)
	atOnce(8, func(i int) {
		conn := a.dial()
		defer conn.Close()
		h := &hodeipb.Hello{Protocol: hodeipb.Protocol, Namespace: hello.Namespace, Job: hello.Job, Attempt: fmt.Sprint(a.attempt, i),
			AttemptUid: fmt.Sprint(a.uid, i),
			Extent:     hello.Extent, State: hello.State}
		if s, ok := attach(ctx, conn, h); ok && s.welcomed() {
			<-time.After(3 * time.Second) // for who looks at it
		}
	})
}

// parts are messages of a MiB of parts that are empty, besides marks.
func parts(ctx context.Context, a *agent) {
	probes := slices.Repeat([]*hodeipb.Probe{{}}, 500_000)
	for _, m := range []*hodeipb.FromAgent{
		state(&hodeipb.State{Phase: hodeipb.Phase_RUNNING, Probes: probes}),
		exit(&hodeipb.ExitRecord{Cause: contract.CauseCompleted, Probes: probes}),
		exit(&hodeipb.ExitRecord{Cause: contract.CauseCompleted, Usage: &hodeipb.Usage{RunQueueWaits: make([]uint64, 1_000_000)}}),
		{Message: &hodeipb.FromAgent_Batch{Batch: &hodeipb.Batch{Records: slices.Repeat([]*hodeipb.Record{{}}, 500_000),
			Data: []byte("x")}}},
		{Message: &hodeipb.FromAgent_Batch{Batch: &hodeipb.Batch{Records: slices.Repeat([]*hodeipb.Record{{}}, 500_000)}}},
	} {
		a.attached(ctx, func(s *stream) {
			s.tell(m)
			if s.CloseSend() == nil {
				_ = s.end()
			}
		})
	}
}

// states are a flood of them.
func states(ctx context.Context, a *agent) {
	probes := []*hodeipb.Probe{{Name: "network", Absent: strings.Repeat("x", 1000)}}
	a.attached(ctx, func(s *stream) {
		go s.end()
		for i := range 50_000 {
			if !s.tell(state(&hodeipb.State{Phase: hodeipb.Phase(2 + i%3), BlockedOnOutput: i%2 == 0, Probes: probes})) {
				return
			}
		}
	})
}

// uids are a new attempt for each stream.
func uids(ctx context.Context, a *agent) {
	conn := a.dial()
	defer conn.Close()
	for i := range 300 {
		hello := a.hello()
		hello.Attempt, hello.AttemptUid = fmt.Sprint(a.attempt, "-", i), fmt.Sprint(a.uid, "-", i)
		stop, cancel := context.WithCancel(ctx)
		if s, ok := attach(stop, conn, hello); ok && s.welcomed() {
			s.tell(batch(0, "x"))
		}
		cancel()
	}
}

// names are attempts and UIDs that are none.
func names(ctx context.Context, a *agent) {
	for _, name := range []string{
		strings.Repeat("x", 900_000), strings.Repeat("x", 60_000), "", ".", "..", "../../x", "a/b", "a\x00b", "\x1b[2J", "a\nb",
		"a\u202eb", "-",
	} {
		for _, change := range []func(*hodeipb.Hello){
			func(h *hodeipb.Hello) { h.Attempt = name },
			func(h *hodeipb.Hello) { h.AttemptUid = name },
			func(h *hodeipb.Hello) { h.AgentVersion = name },
			func(h *hodeipb.Hello) { h.Job = name },
			func(h *hodeipb.Hello) { h.Namespace = name },
		} {
			conn := a.dial()
			hello := a.hello()
			change(hello)
			s, ok := attach(ctx, conn, hello)
			if ok && s.welcomed() {
				s.tell(batch(0, "x"))
			}
			conn.Close()
		}
	}
}

// times are those that no clock shows.
func times(ctx context.Context, a *agent) {
	for _, at := range []*timestamppb.Timestamp{
		{Seconds: math.MaxInt64}, {Seconds: math.MinInt64}, {Nanos: -1}, {Nanos: math.MaxInt32},
		{Seconds: 253402300799}, {Seconds: -62135596800}, {Seconds: -1},
	} {
		for _, m := range []*hodeipb.FromAgent{
			metrics(&hodeipb.Metrics{Time: at, Usage: &hodeipb.Usage{}}),
			state(&hodeipb.State{Phase: hodeipb.Phase_RUNNING, AgentStarted: at, CommandStarted: at}),
			exit(&hodeipb.ExitRecord{Cause: contract.CauseCompleted, Started: at}),
			exit(&hodeipb.ExitRecord{Cause: contract.CauseCompleted, Finished: at}),
		} {
			a.attached(ctx, func(s *stream) {
				s.tell(m)
				if s.CloseSend() == nil {
					_ = s.end()
				}
			})
		}
		conn := a.dial()
		hello := a.hello()
		hello.LastSample = at
		if s, ok := attach(ctx, conn, hello); ok {
			s.welcomed()
		}
		conn.Close()
	}
}

// texts are as long as a message may be.
func texts(ctx context.Context, a *agent) {
	long := strings.Repeat("<é>", 50_000)
	for _, m := range []*hodeipb.FromAgent{
		exit(&hodeipb.ExitRecord{Cause: contract.CauseError, Code: 1, Message: long}),
		exit(&hodeipb.ExitRecord{Cause: long, Code: 1}),
		exit(&hodeipb.ExitRecord{Cause: contract.CauseError, Code: 1, Probes: []*hodeipb.Probe{{Name: long, Absent: long}}}),
		exit(&hodeipb.ExitRecord{Cause: contract.CauseOOMKilled, Code: 137,
			Usage: &hodeipb.Usage{Source: long, OomVictim: &hodeipb.OOMVictim{Name: long}}}),
		exit(&hodeipb.ExitRecord{Cause: contract.CauseError, Code: 1, Message: long[:60_000]}),
	} {
		a.attached(ctx, func(s *stream) {
			s.tell(m)
			if s.CloseSend() == nil {
				_ = s.end()
			}
		})
	}
}

// samples are a flood of large ones, in times that go on by a nanosecond.
func samples(ctx context.Context, a *agent) {
	most := uint64(math.MaxUint64)
	usage := &hodeipb.Usage{Source: strings.Repeat("x", 2000), RunQueueWaits: slices.Repeat([]uint64{most}, 65),
		CpuNs: &most, MemoryBytes: &most, MemoryPeakBytes: &most, IoReadBytes: &most, OomKills: &most}
	began := time.Now()
	a.attached(ctx, func(s *stream) {
		go s.end()
		for i := range 20_000 {
			if !s.tell(metrics(&hodeipb.Metrics{Time: timestamppb.New(began.Add(time.Duration(i))), Usage: usage})) {
				return
			}
		}
	})
}

// offsets are where no output can be.
func offsets(ctx context.Context, a *agent) {
	gap := func(offset, lost uint64) *hodeipb.FromAgent {
		return &hodeipb.FromAgent{Message: &hodeipb.FromAgent_Batch{Batch: &hodeipb.Batch{Offset: offset,
			Records: []*hodeipb.Record{{Lost: lost}}}}}
	}
	for _, m := range []*hodeipb.FromAgent{
		gap(0, math.MaxUint64), gap(0, 1<<63), gap(math.MaxUint64, 1), batch(math.MaxUint64, "x"), batch(1<<63, "x"),
		exit(&hodeipb.ExitRecord{Cause: contract.CauseCompleted, Lost: math.MaxUint64}),
		exit(&hodeipb.ExitRecord{Cause: contract.CauseCompleted, StdoutEnd: math.MaxUint64, StderrEnd: math.MaxUint64}),
	} {
		a.attached(ctx, func(s *stream) {
			s.tell(m)
			if s.CloseSend() == nil {
				_ = s.end()
			}
		})
	}
	for _, extent := range []*hodeipb.Extent{
		{End: math.MaxUint64}, {First: math.MaxUint64, End: math.MaxUint64}, {First: 2, End: 1}, {First: 1 << 63, End: 1 << 63},
		{End: 1, Marks: []*hodeipb.Mark{{Offset: math.MaxUint64, TimeUnixNano: math.MinInt64}}},
	} {
		conn := a.dial()
		hello := a.hello()
		hello.Extent = extent
		if s, ok := attach(ctx, conn, hello); ok {
			s.welcomed()
		}
		conn.Close()
	}
}

// lengths are batches whose records do not fit their data.
func lengths(ctx context.Context, a *agent) {
	out := hodeipb.Stream_STDOUT
	for _, records := range [][]*hodeipb.Record{
		nil, {{}}, {{Stream: out, Length: math.MaxUint32}}, {{Stream: out, Length: 1}}, {{Stream: 99, Length: 3}},
		{{Stream: out, Length: 3, Lost: 3}}, slices.Repeat([]*hodeipb.Record{{Stream: out, Length: math.MaxUint32}}, 1024),
	} {
		for _, encoding := range []hodeipb.Encoding{hodeipb.Encoding_IDENTITY, hodeipb.Encoding_ZSTD, 99} {
			a.attached(ctx, func(s *stream) {
				s.tell(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Batch{Batch: &hodeipb.Batch{Records: records, Encoding: encoding,
					Data: []byte("abc")}}})
				if s.CloseSend() == nil {
					_ = s.end()
				}
			})
		}
	}
}

// bombs are small batches that say they are large, or become so.
func bombs(ctx context.Context, a *agent) {
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed, zstd.WithWindowSize(zstd.MaxWindowSize/2))
	if err != nil {
		panic(err)
	}
	zeros := make([]byte, 1<<20)
	for range 256 {
		if _, err := w.Write(zeros); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	// A frame that claims a window of 1 TiB, and one that claims 2^62 bytes of content.
	window := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf0, 0x01, 0x00, 0x00}
	content := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x01, 0x00, 0x00}
	for _, data := range [][]byte{packed.Bytes(), window, content, {0x28, 0xb5, 0x2f, 0xfd}} {
		for _, length := range []uint32{1, 1 << 20} {
			atOnce(8, func(int) {
				a.attached(ctx, func(s *stream) {
					s.tell(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Batch{Batch: &hodeipb.Batch{Encoding: hodeipb.Encoding_ZSTD,
						Data:    data,
						Records: []*hodeipb.Record{{Stream: hodeipb.Stream_STDOUT, Length: length}}}}})
					if s.CloseSend() == nil {
						_ = s.end()
					}
				})
			})
		}
	}
}

// streams are many of them, on many connections, that say nothing.
func streams(ctx context.Context, a *agent) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second) // most are never let in
	defer cancel()
	atOnce(100, func(int) {
		conn := a.dial()
		defer conn.Close()
		atOnce(20, func(int) {
			if s, err := hodeipb.NewCoordinatorClient(conn).Attach(ctx); err == nil {
				_ = (&stream{s}).end()
			}
		})
	})
}

// headers are metadata of many MiB.
func headers(ctx context.Context, a *agent) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // what is dropped is not answered
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x", strings.Repeat("x", 8<<20))
	atOnce(8, func(int) {
		conn := a.dial()
		defer conn.Close()
		for range 4 {
			if s, ok := attach(ctx, conn, a.hello()); ok {
				s.welcomed()
			}
		}
	})
}

// garbage is what is no message, and no HTTP/2.
func garbage(ctx context.Context, a *agent) {
	for _, b := range [][]byte{
		{}, {0xff}, bytes.Repeat([]byte{0x0b}, 1<<20), // groups without an end
		protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), make([]byte, 1<<20)),
		protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.BytesType), math.MaxUint64),
	} {
		a.attached(ctx, func(s *stream) {
			_ = s.SendMsg(raw(b))
			if s.CloseSend() == nil {
				_ = s.end()
			}
		})
		if conn, err := net.Dial("tcp", a.server); err == nil {
			_, _ = conn.Write(b)
			conn.Close()
		}
	}
}
