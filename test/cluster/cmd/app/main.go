// Command app is the only file of the image registry.local/any:1, which has no
// shell, no C library and no /etc: what a job in a scratch image looks like. It
// writes to both streams and exits with the number in APP_EXIT, or 0.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

func main() {
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
