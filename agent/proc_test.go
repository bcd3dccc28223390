package agent

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// children are the process ids of all children of the processes given.
func children(t testing.TB, pids ...int) []int {
	t.Helper()
	var all []int
	for _, pid := range pids {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, task := range tasks {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
			for _, field := range strings.Fields(string(text)) {
				child, err := strconv.Atoi(field)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, child)
			}
		}
	}
	return all
}
