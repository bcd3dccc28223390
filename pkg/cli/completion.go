package cli

import (
	"io"

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
			jobs.`),
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
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
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
