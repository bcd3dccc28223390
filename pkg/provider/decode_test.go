package provider

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseRequest(t *testing.T) {
	kube := Config{Type: Kubernetes, Namespace: "hodei-jobs-workers", ImagePullPolicy: "IfNotPresent"}
	for _, test := range []struct{ name, in, wantName string }{
		{"the guide's",
			`{"type": "kubernetes", "name": "k8s-local", "config": {"namespace": "hodei-jobs-workers", "image_pull_policy": ` +
				`"IfNotPresent"}}`, "k8s-local"},
		{"without a name", `{"type": "kubernetes", "config": {"namespace": "hodei-jobs-workers", "image_pull_policy": "IfNotPresent"}}`,
			""},
		{"the type twice",
			`{"type": "kubernetes", "config": {"type": "kubernetes", "namespace": "hodei-jobs-workers", "image_pull_policy": ` +
				`"IfNotPresent"}}`, ""},
		{"with tabs",
			"{\n\t\"type\": \"kubernetes\",\n\t\"namespace\": \"hodei-jobs-workers\",\n\t\"image_pull_policy\": \"IfNotPresent\"\n}\n", ""},
		{"escapes that YAML does not have",
			`{"\u0074ype": "kubernete\u0073", "name": "k8s\u002dlocal", "config": {"namespace": "hodei-jobs-workers", ` +
				`"image_pull_policy": "IfNotPresent", "context": null}}`, "k8s-local"},
		{"YAML", "name: k8s-local\ntype: kubernetes\nconfig:\n  namespace: hodei-jobs-workers\n  image_pull_policy: IfNotPresent\n",
			"k8s-local"},
		{"its keys", "type: kubernetes\nnamespace: hodei-jobs-workers\nimage_pull_policy: IfNotPresent\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			name, c, err := ParseRequest([]byte(test.in))
			if err != nil || name != test.wantName || !reflect.DeepEqual(c, kube) {
				t.Errorf("got %q, %+v, %v", name, c, err)
			}
		})
	}
	// JSON that is no YAML.
	if _, c, err := ParseRequest([]byte(`{"type":"kubernetes","context":"a\/b \ud83d\ude00"}`)); err != nil ||
		c.Context != "a/b \U0001F600" {
		t.Errorf("got %+v, %v", c, err)
	}
	if name, c, err := ParseRequest([]byte(`{"type":"local","name":"here"}`)); err != nil || name != "here" || c.Type != Local {
		t.Errorf("got %q, %+v, %v", name, c, err)
	}
}

func TestParseRequestRefuses(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"nothing", "", `type: "": want "kubernetes" or "local"`},
		{"no YAML", "{", "yaml"},
		{"a list", "[]", "[]: want keys and values"},
		{"a text", `"x"`, `"x": want keys and values`},
		{"no type", `{"name": "a", "config": {}}`, `type: "": want "kubernetes" or "local"`},
		{"another type inside", `{"type": "kubernetes", "config": {"type": "local"}}`,
			`config.type: "local": the type beside config is "kubernetes"`},
		{"type a number", `{"type": 1, "config": {}}`, "type: 1: want a text"},
		{"config a list", `{"type": "kubernetes", "config": [1]}`, "config: [1]: want keys and values"},
		{"a key outside", `{"type": "kubernetes", "name": "a", "namespace": "b"}`,
			"namespace: unknown key; allowed are config, name, type"},
		{"unknown key inside", `{"type": "kubernetes", "config": {"Namespace": "b"}}`, "config.Namespace: unknown key; allowed are "},
		{"wrong type inside", `{"type": "kubernetes", "config": {"namespace": {"a": 1}}}`, `config.namespace: {"a":1}: want a text`},
		{"twice", `{"type": "kubernetes", "config": {"namespace": "a", "namespace": "b"}}`, "config.namespace: already set above"},
		{"twice, deep down", `{"type": "kubernetes", "tolerations": [{}, {"key": "a", "key": "b"}]}`,
			"tolerations[1].key: already set above"},
		{"twice in YAML", "type: kubernetes\nnamespace: a\nnamespace: b\n", `"namespace" already set in map`},
		{"bad value", `{"type": "kubernetes", "config": {"namespace": "A"}}`, `namespace: "A": want lower-case letters`},
	} {
		t.Run(test.name, func(t *testing.T) {
			name, c, err := ParseRequest([]byte(test.in))
			if err == nil {
				t.Fatalf("got %q, %+v, want an error", name, c)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want %q in it", err, test.want)
			}
			if name != "" || !reflect.DeepEqual(c, Config{}) {
				t.Errorf("got %q, %+v beside the error", name, c)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	c := Config{Type: Kubernetes, Namespace: "a", Image: "b", ImagePullSecrets: []string{"one", "two"}}
	if _, err := c.Merge([]byte("image_pull_secrets: [three]\nimage: null\ncontext: c")); err != nil {
		t.Fatal(err)
	}
	want := Config{Type: Kubernetes, Namespace: "a", Context: "c", ImagePullSecrets: []string{"three"}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, want %+v", c, want)
	}
	if _, err := c.Merge([]byte("context: d\nnamespace: [1]")); err == nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v", c, err)
	}
	// In the guide's form the type may be left out too.
	if name, err := c.Merge([]byte("name: x\nconfig: {context: d}")); err != nil || name != "x" || c.Context != "d" ||
		c.Type != Kubernetes {
		t.Errorf("got %q, %+v, %v", name, c, err)
	}
}

// A number of CPUs has no unit to guess.
func TestGuess(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"cpu_limit: 512MB", `cpu_limit: "512MB": want a quantity such as 2 or 512Mi`},
		{"memory_limit: 512MB", `memory_limit: "512MB": want a quantity such as 2 or 512Mi; did you mean 512Mi?`},
	} {
		if _, _, err := ParseRequest([]byte("type: kubernetes\n" + test.in)); err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}
