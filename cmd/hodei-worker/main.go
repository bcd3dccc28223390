// An agent sleeps most of the time. To look once a second whether its container's CPU
// limit has changed costs it two system calls and a wake-up, and nothing changes it.
//
//go:debug updatemaxprocs=0

// Command hodei-worker is what runs in a worker Pod: "agent" is its first
// container, "copy" puts the program where the job's container finds it, and
// "launch -- CMD" is process 1 there.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Getenv, os.Stderr)) }
