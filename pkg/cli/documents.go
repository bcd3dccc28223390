package cli

import (
	"bytes"
	"io"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"
)

// documents prints objects as JSON or YAML, as kubectl does, whatever texts they hold.
// kubectl's own printers write as they are the characters that command a terminal, and
// its YAML fails for a whole list that holds one which YAML can't: here such an object
// is JSON with escapes, which is YAML too.
type documents struct {
	json    printers.ResourcePrinter
	yaml    bool
	printed bool
}

// newPrinter returns documents for the formats json and yaml, and for all others what toPrinter
// makes. format and toPrinter belong to the same print flags of kubectl.
func newPrinter(format *string, toPrinter func() (printers.ResourcePrinter, error)) (printers.ResourcePrinter, error) {
	chosen := *format
	if chosen != "json" && chosen != "yaml" {
		return toPrinter()
	}
	*format = "json" // with all that the other flags say
	defer func() { *format = chosen }()
	printer, err := toPrinter()
	if err != nil {
		return nil, err
	}
	return &documents{json: printer, yaml: chosen == "yaml"}, nil
}

// PrintObj implements printers.ResourcePrinter.
func (d *documents) PrintObj(object runtime.Object, w io.Writer) error {
	var b bytes.Buffer
	if err := d.json.PrintObj(object, &b); err != nil {
		return err
	}
	text := escaped(b.Bytes())
	if d.yaml {
		if plain(b.Bytes()) {
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

// statePrinters makes printers that print objects as -o says, or as a line in which
// state, with one %s, surrounds what has been done.
func statePrinters(flags *genericclioptions.PrintFlags) func(state string) (printers.ResourcePrinter, error) {
	var stream *documents // which knows what was printed before
	return func(state string) (printers.ResourcePrinter, error) {
		if stream != nil {
			return stream, nil
		}
		copied, names := *flags, *flags.NamePrintFlags
		copied.NamePrintFlags = &names
		if err := copied.Complete(state); err != nil {
			return nil, err
		}
		printer, err := newPrinter(copied.OutputFormat, copied.ToPrinter)
		stream, _ = printer.(*documents)
		return printer, err
	}
}
