package document

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/printers"
)

// A stream of documents stays one where some of them are JSON.
func TestPrinter(t *testing.T) {
	object := func(text string) runtime.Object {
		return &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Data: map[string]string{"a": text}}
	}
	printer := &Printer{JSON: &printers.JSONPrinter{}, YAML: true}
	var out bytes.Buffer
	for _, text := range []string{"plain", "\u0085", "<>&", "\u202e"} {
		if err := printer.PrintObj(object(text), &out); err != nil {
			t.Fatal(err)
		}
	}
	const yaml = "apiVersion: v1\ndata:\n  a: %s\nkind: ConfigMap\n"
	const json = "{\n    \"kind\": \"ConfigMap\",\n    \"apiVersion\": \"v1\",\n" +
		"    \"data\": {\n        \"a\": \"%s\"\n    }\n}\n"
	want := fmt.Sprintf(yaml, "plain") + "---\n" + fmt.Sprintf(json, `\u0085`) + "---\n" +
		fmt.Sprintf(yaml, "<>&") + "---\n" + fmt.Sprintf(json, `\u202e`)
	if got := strings.NewReplacer("metadata: {}\n", "", "    \"metadata\": {},\n", "").Replace(out.String()); got != want {
		t.Errorf("got %s\nwant %s", out.String(), want)
	}
}

// An object is one line, and no name commands the terminal or passes for another line.
func TestLinePrinter(t *testing.T) {
	object := func(name string) *unstructured.Unstructured {
		o := &unstructured.Unstructured{}
		o.SetAPIVersion("v1")
		o.SetKind("Secret")
		o.SetName(name)
		return o
	}
	hostile := object("a\x1b[2J\u009b\u202e\r\nsecret/b")
	list := &unstructured.UnstructuredList{Items: []unstructured.Unstructured{*object("a"), *object("b\n")}}
	for _, test := range []struct {
		name   string
		object runtime.Object
		want   string
	}{
		{"plain", object("a"), "secret/a pruned\n"},
		{"hostile", hostile, `secret/a\u001b[2J\u009b\u202e\u000d\nsecret/b pruned` + "\n"},
		{"list", list, "secret/a pruned\n" + `secret/b\n pruned` + "\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			printer := &LinePrinter{Line: &printers.NamePrinter{Operation: "pruned"}}
			if err := printer.PrintObj(test.object, &out); err != nil || out.String() != test.want {
				t.Errorf("got %q, %v, want %q", out.String(), err, test.want)
			}
		})
	}
}
