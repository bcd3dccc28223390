package provider

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

func TestSetDefaults(t *testing.T) {
	const settings = "{type: kubernetes, cpu: 1, cpu_limit: 2, memory: 512Mi, memory_limit: 1Gi, ephemeral_storage: 5Gi, user: 1000, " +
		"ttl: 30m, start_timeout: 5m}"
	for _, test := range []struct{ name, provider, spec, want string }{
		{"nothing is said", settings, `{}`,
			`{"name":"","cpu":"1","cpuLimit":"2","memory":"512Mi","memoryLimit":"1Gi","ephemeralStorage":"5Gi","user":"1000",` +
				`"startTimeout":300000000000,"ttl":1800000000000}`},
		{"everything is said", settings,
			`{"cpu":"250m","cpuLimit":"500m","memory":"8Mi","memoryLimit":"16Mi","ephemeralStorage":"1Gi","user":"image",` +
				`"startTimeout":1,"ttl":2}`,
			`{"name":"","cpu":"250m","cpuLimit":"500m","memory":"8Mi","memoryLimit":"16Mi","ephemeralStorage":"1Gi","user":"image",` +
				`"startTimeout":1,"ttl":2}`},
		{"a request under the default limit", "{type: kubernetes, cpu: 1, cpu_limit: 2}", `{"cpu":"1500m"}`,
			`{"name":"","cpu":"1500m","cpuLimit":"2"}`},
		{"a request over the default limit", "{type: kubernetes, cpu: 1, cpu_limit: 2}", `{"cpu":"4"}`, `{"name":"","cpu":"4"}`},
		{"a limit over the default request", "{type: kubernetes, cpu: 1, cpu_limit: 2}", `{"cpuLimit":"1500m"}`,
			`{"name":"","cpu":"1","cpuLimit":"1500m"}`},
		{"a limit under the default request", "{type: kubernetes, cpu: 1, cpu_limit: 2}", `{"cpuLimit":"500m"}`,
			`{"name":"","cpuLimit":"500m"}`},
		{"a default request alone", "{type: kubernetes, memory: 1Gi}", `{}`, `{"name":"","memory":"1Gi"}`},
		{"no defaults", "{type: kubernetes}", `{"cpu":"1"}`, `{"name":"","cpu":"1"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, c, err := ParseRequest([]byte(test.provider))
			if err != nil {
				t.Fatal(err)
			}
			var spec job.Spec
			if err := json.Unmarshal([]byte(test.spec), &spec); err != nil {
				t.Fatal(err)
			}
			c.SetDefaults(&spec)
			if got, err := json.Marshal(spec); err != nil || string(got) != test.want {
				t.Errorf("%v\ngot  %s\nwant %s", err, got, test.want)
			}
			// What comes of defaults and wishes together is a job that can be made.
			spec.Command = []string{"true"}
			spec.SetDefaults()
			if err := spec.Validate(); err != nil {
				t.Error(err)
			}
			if c.TTL != nil && spec.TTL == job.DefaultTTL || spec.TTL > 24*time.Hour {
				t.Errorf("ttl %s", spec.TTL)
			}
		})
	}
}

func TestWithDefaults(t *testing.T) {
	got := Config{Type: Kubernetes, Image: "x"}.WithDefaults()
	want := Config{Type: Kubernetes, Image: "x", ImagePullPolicy: "IfNotPresent", Namespace: "hodei-jobs-workers",
		ServiceAccount: "hodei-jobs-worker", GPUResource: "nvidia.com/gpu"}
	if a, b := marshal(t, got), marshal(t, want); a != b {
		t.Errorf("got %s, want %s", a, b)
	}
	if got := (Config{Type: Local}).WithDefaults(); got.Namespace != "" || got.GPUResource != "" {
		t.Errorf("local has %+v", got)
	}
}

func marshal(t *testing.T, c Config) string {
	t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
