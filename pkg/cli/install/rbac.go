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

// checkRightsOutput checks -o: rights are no objects that other printers know.
func checkRightsOutput(cmd *cobra.Command, output string) error {
	if !slices.Contains([]string{"", "json", "yaml"}, output) {
		return command.Usagef(cmd, "--output %q: want json or yaml with --print-rbac", output)
	}
	return nil
}

// printRights is hodei install --print-rbac: every verb on every resource that the
// manifests grant, and why. It asks no cluster.
func printRights(a *command.Env, choices deploy.Options, output string) error {
	rights, err := deploy.Rights(choices)
	if err != nil {
		return err
	}
	if output != "" {
		return a.PrintData(rights, output)
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
	return printers.NewTablePrinter(printers.PrintOptions{}).PrintObj(table, a.Out)
}
