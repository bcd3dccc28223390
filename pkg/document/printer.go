package document

import (
	"bytes"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// ObjectPrinter prints one Kubernetes object. The printers of k8s.io/cli-runtime are some.
type ObjectPrinter interface {
	PrintObj(object runtime.Object, w io.Writer) error
}

// Printer prints Kubernetes objects as JSON or YAML, as kubectl does, whatever texts they hold.
// kubectl's own printers write the characters that command a terminal as they are, and its YAML
// fails for a whole list that holds one which YAML can't carry: here such an object is JSON with
// escapes, which is YAML too. It is for one stream, and used by one goroutine at a time.
type Printer struct {
	// JSON prints each object as JSON.
	JSON ObjectPrinter
	// YAML turns that into YAML, with a line --- between two documents.
	YAML bool

	printed bool
}

// PrintObj implements [ObjectPrinter].
func (d *Printer) PrintObj(object runtime.Object, w io.Writer) error {
	var b bytes.Buffer
	if err := d.JSON.PrintObj(object, &b); err != nil {
		return err
	}
	text := Escape(b.Bytes())
	if d.YAML {
		if Plain(b.Bytes()) {
			var err error
			if text, err = yaml.JSONToYAML(b.Bytes()); err != nil {
				return err
			}
		}
		if d.printed {
			text = append([]byte("---\n"), text...)
		}
		d.printed = true
	}
	_, err := w.Write(text)
	return err
}

// LinePrinter prints each Kubernetes object, or each of an unstructured list, as one line, whatever its
// name holds. Characters that command a terminal, and newlines, are escaped as in JSON.
type LinePrinter struct {
	// Line prints an object as a line. kubectl's NamePrinter, which writes names as they are, is one.
	Line ObjectPrinter
}

// PrintObj implements [ObjectPrinter].
func (l *LinePrinter) PrintObj(object runtime.Object, w io.Writer) error {
	if list, ok := object.(*unstructured.UnstructuredList); ok {
		for i := range list.Items {
			if err := l.PrintObj(&list.Items[i], w); err != nil {
				return err
			}
		}
		return nil
	}
	var b bytes.Buffer
	if err := l.Line.PrintObj(object, &b); err != nil {
		return err
	}
	line := bytes.ReplaceAll(bytes.TrimSuffix(b.Bytes(), []byte("\n")), []byte("\n"), []byte(`\n`))
	_, err := w.Write(append(Escape(line), '\n'))
	return err
}
