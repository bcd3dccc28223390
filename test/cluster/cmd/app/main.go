// Command app is the only file of the image registry.local/any:1, which has no
// shell, no C library and no /etc: what a job in a scratch image looks like. It
// writes to both streams and exits with the number in APP_EXIT, or 0. With the argument
// where it prints its home and its directory, once it has written a file into both; with wait it does
// nothing until it is told to end.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "where" {
		os.Exit(where())
	}
	if len(os.Args) == 2 && os.Args[1] == "wait" {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		<-asked
		return
	}
	fmt.Println("hello from scratch")
	if len(os.Args) > 1 {
		fmt.Println(strings.Join(os.Args[1:], " "))
	}
	fmt.Fprintln(os.Stderr, "and stderr")

	text := os.Getenv("APP_EXIT")
	if text == "" {
		return
	}
	code, err := strconv.Atoi(text)
	if err != nil {
		fmt.Fprintf(os.Stderr, "app: APP_EXIT %q is no number\n", text)
		code = 2
	}
	os.Exit(code)
}

func where() int {
	dir, err := os.Getwd()
	for _, place := range []string{os.Getenv("HOME"), dir} {
		if err == nil {
			err = os.WriteFile(place+"/file", []byte("x"), 0o600)
		}
		fmt.Println(place)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		return 1
	}
	return 0
}
