package cli

import (
	"errors"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"
)

// newCompletion makes the command, which writes to out and needs nothing else.
func newCompletion(out io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the completion script of a shell",
		Long: templates.LongDesc(`
			Print a script that a shell reads to complete hodei's commands, flags, providers and
			jobs.

			'kubectl hodei' completes with kubectl's own script, if kubectl_complete-hodei, another
			link to hodei, is on PATH beside kubectl-hodei.`),
		Example: templates.Examples(`
			# Complete in this bash; needs the package bash-completion
			source <(hodei completion bash)

			# Complete in every new bash
			hodei completion bash > ~/.local/share/bash-completion/completions/hodei

			# Complete in every new zsh
			hodei completion zsh > "${fpath[1]}/_hodei"

			# Complete in every new fish
			hodei completion fish > ~/.config/fish/completions/hodei.fish

			# Complete in this PowerShell
			hodei completion powershell | Out-String | Invoke-Expression`),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("one shell is to be named: " + strings.Join(cmd.ValidArgs, ", "))
			}
			return cobra.OnlyValidArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			default:
				return root.GenPowerShellCompletionWithDesc(out)
			}
		},
	}
}

// completing returns the arguments of a process that kubectl calls for completions, as cobra takes them: kubectl looks
// for kubectl_complete-NAME and gives it what was typed behind the plugin's name. Other arguments stay as they are.
func completing(args []string) []string {
	plugin, ok := strings.CutPrefix(filepath.Base(args[0]), "kubectl_complete-")
	if !ok {
		return args
	}
	return append([]string{"kubectl-" + plugin, cobra.ShellCompRequestCmd}, args[1:]...)
}
