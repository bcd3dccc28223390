package job

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
)

func TestAmount(t *testing.T) {
	for _, test := range []struct {
		name, text string
		amount     Amount
		want       string // the quantity, or the error
	}{
		{"cores", "2", CPUs, "2"},
		{"thousandths", "1m", CPUs, "1m"},
		{"a decimal", "0.5", CPUs, "500m"},
		{"finer than a thousandth", "1500u", CPUs, "1500u: a CPU has no more than 1000 parts"},
		{"less than a thousandth", "1u", CPUs, "1u: want 1m to 10k"},
		{"no cores", "0", CPUs, "0: want 1m to 10k"},
		{"negative", "-1", CPUs, "-1: want 1m to 10k"},
		{"bytes for cores", "512Mi", CPUs, "512Mi: want 1m to 10k"},
		{"no quantity", "two", CPUs, `"two": want a quantity such as 500m or 2`},
		{"percent", "50%", CPUs, `"50%": want a quantity such as 500m or 2`},
		{"memory", "512Mi", Memory, "512Mi"},
		{"decimal memory", "1G", Memory, "1G"},
		{"half a GiB", "0.5Gi", Memory, "512Mi"},
		{"thousandths of a byte", "512m", Memory, "512m: want 4Mi to 1Pi; did you mean 512Mi?"},
		{"bytes", "512", Memory, "512: want 4Mi to 1Pi; did you mean 512Mi?"},
		{"few GiB", "2", Memory, "2: want 4Mi to 1Pi; did you mean 2Gi?"},
		{"the launcher does not fit", "1Mi", Memory, "1Mi: want 4Mi to 1Pi"},
		{"docker's", "512mb", Memory, `"512mb": want a quantity such as 512Mi or 4Gi; did you mean 512Mi?`},
		{"docker's short one", "2g", Memory, `"2g": want a quantity such as 512Mi or 4Gi; did you mean 2Gi?`},
		{"spelled out", "64 KiB", Disk, `"64 KiB": want a quantity such as 512Mi or 10Gi; did you mean 64Ki?`},
		{"words", "lots", Memory, `"lots": want a quantity such as 512Mi or 4Gi`},
		{"negative memory", "-1Mi", Memory, "-1Mi: want 4Mi to 1Pi"},
		{"no node has it", "2Pi", Memory, "2Pi: want 4Mi to 1Pi"},
		{"no int64 holds it", "16Ei", Memory, "9223372036854775807: want 4Mi to 1Pi"},
		{"half a byte more", "8388608500m", Memory, "8388608500m: a byte has no parts"},
		{"a store of one byte", "500m", Store, "500m: want 1Mi to 1Pi; did you mean 500Mi?"},
		{"a store for nothing", "0", Store, "0: want 1Mi to 1Pi"},
		{"least spool", "1Mi", Spool, "1Mi"},
		{"largest spool", "16Ti", Spool, "16Ti"},
		{"a spool larger than a disk", "17Ti", Spool, "17Ti: want 1Mi to 16Ti"},
		{"part of a Pod", "1500m", AllPods, "1500m: want a whole number"},
		{"empty", "", Memory, `"": want a quantity such as 512Mi or 4Gi`},
	} {
		t.Run(test.name, func(t *testing.T) {
			q, err := test.amount.Parse(test.text)
			got := q.String()
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("%q: got %s, want %s", test.text, got, test.want)
			}
		})
	}
}

// What an amount takes is within its bounds, and counted exactly.
func FuzzAmount(f *testing.F) {
	for _, text := range []string{"1", "512m", "4Mi", "0.1", "1e3", "-5Ki", "16Ei", "9999999999999999999", "1n", "512 mb"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, a := range []Amount{CPUs, Memory, Spool, AllMemory} {
			q, err := a.Parse(text)
			if err != nil {
				if i := strings.Index(err.Error(), "did you mean "); i >= 0 {
					guess := strings.TrimSuffix(err.Error()[i+len("did you mean "):], "?")
					if _, err := a.Parse(guess); err != nil {
						t.Errorf("%q: the guess %q: %v", text, guess, err)
					}
				}
				continue
			}
			if q.Cmp(resource.MustParse(a.least)) < 0 || q.Cmp(resource.MustParse(a.most)) > 0 {
				t.Errorf("%q is %s, out of %s to %s", text, &q, a.least, a.most)
			}
			if n := resource.NewScaledQuantity(q.ScaledValue(a.scale), a.scale); n.Cmp(q) != 0 {
				t.Errorf("%q is %s, and counted as %s", text, &q, n)
			}
		}
	})
}
