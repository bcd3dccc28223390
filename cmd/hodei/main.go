// Command hodei runs commands on Kubernetes. Called kubectl-hodei it is the
// kubectl plugin of the same name.
package main

import (
	"os"

	"github.com/hodei-jobs/hodei/pkg/cli"
)

func main() { os.Exit(cli.Main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
