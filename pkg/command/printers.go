package command

import (
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/hodei-jobs/hodei/pkg/document"
)

// NewPrinter returns a document.Printer for the formats json and yaml, a document.LinePrinter for
// names, and for all others what toPrinter makes. format and toPrinter belong to the same print flags
// of kubectl.
func NewPrinter(format *string, toPrinter func() (printers.ResourcePrinter, error)) (printers.ResourcePrinter, error) {
	chosen := *format
	if chosen != "json" && chosen != "yaml" {
		printer, err := toPrinter()
		if names, ok := printer.(*printers.NamePrinter); ok {
			return &document.LinePrinter{Line: names}, err
		}
		return printer, err
	}
	*format = "json" // with all that the other flags say
	defer func() { *format = chosen }()
	printer, err := toPrinter()
	if err != nil {
		return nil, err
	}
	return &document.Printer{JSON: printer, YAML: chosen == "yaml"}, nil
}

// LinePrinter returns a printer of lines that name an object, as kubectl does, and say what was done to
// it. No name commands the terminal.
func LinePrinter(done string) *document.LinePrinter {
	return &document.LinePrinter{Line: &printers.NamePrinter{Operation: done}}
}

// StatePrinters makes printers that print objects as -o says, or as a line in which
// state, with one %s, surrounds what has been done.
func StatePrinters(flags *genericclioptions.PrintFlags) func(state string) (printers.ResourcePrinter, error) {
	var stream *document.Printer // which knows what was printed before
	return func(state string) (printers.ResourcePrinter, error) {
		if stream != nil {
			return stream, nil
		}
		copied, names := *flags, *flags.NamePrintFlags
		copied.NamePrintFlags = &names
		if err := copied.Complete(state); err != nil {
			return nil, err
		}
		printer, err := NewPrinter(copied.OutputFormat, copied.ToPrinter)
		stream, _ = printer.(*document.Printer)
		return printer, err
	}
}

// PrintData writes v, which is no Kubernetes object, as JSON or YAML.
func (a *Env) PrintData(v any, format string) error {
	marshal := document.YAML
	if format == "json" {
		marshal = document.JSON
	}
	data, err := marshal(v, "    ")
	if err != nil {
		return err
	}
	_, err = a.Out.Write(data)
	return err
}
