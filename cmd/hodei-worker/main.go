// Command hodei-worker is what runs in a worker Pod: "agent" is its first
// container, "copy" puts the program where the job's container finds it, and
// "launch -- CMD" is process 1 there.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Getenv, os.Stderr)) }
