package install

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/command"
)

// checkRightsOutput checks -o: rights are no Kubernetes objects, so kubectl's other formats do not fit.
func checkRightsOutput(cmd *cobra.Command, output string) error {
	if !slices.Contains([]string{"", "json", "yaml"}, output) {
		return command.Usagef(cmd, "--output %q: want json or yaml with --print-rbac", output)
	}
	return nil
}

// printRights prints every verb on every resource that the manifests grant, and why. It asks no cluster.
func (o *Options) printRights() error {
	rights, err := deploy.Rights(o.choices)
	if err != nil {
		return err
	}
	if o.output != "" {
		return o.printData(rights, o.output)
	}
	table := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{
		{Name: "Role", Type: "string", Format: "name"},
		{Name: "Scope", Type: "string"},
		{Name: "Resource", Type: "string"},
		{Name: "Verbs", Type: "string"},
		{Name: "Why", Type: "string"},
	}}
	for _, right := range rights {
		scope, resource := right.Namespace, right.Resource
		if scope == "" {
			scope = "where it is bound"
		}
		if right.Group != "" {
			resource += "." + right.Group
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: []any{
			right.Role, scope, resource, strings.Join(right.Verbs, ","), right.Why,
		}})
	}
	return printers.NewTablePrinter(printers.PrintOptions{}).PrintObj(table, o.Out)
}
