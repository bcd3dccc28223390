package remedy

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNotRunHint(t *testing.T) {
	here := func(name string) (string, error) {
		line, ok := map[string]string{
			"./script.sh": "#!/bin/bash -e\n", "./train.py": "#!/usr/bin/env python3\n", "./tool.rb": "#!/usr/bin/ruby",
			"./plain.sh": "echo\n",
			"./binary":   "\x7fELF", "./odd": "#!/opt/odd\n", "x y.sh": "#!/bin/sh\n",
		}[name]
		if !ok {
			return "", fs.ErrNotExist
		}
		return line, nil
	}
	const (
		missing = "executable file not found in $PATH"
		check   = "check the command, or name an image that has it: --image IMAGE"
		local   = "local files are not sent"
	)
	for _, test := range []struct {
		name    string
		command []string
		code    int
		message string
		want    string
	}{
		{"a typing error", []string{"mkae", "test"}, 127, missing, check},
		{"operators in a word", []string{"echo hi && ls"}, 127, missing, "a shell can: hodei run -- sh -c 'echo hi && ls'"},
		{"a line", []string{"make test"}, 127, missing, "a shell can: hodei run -- sh -c 'make test'"},
		{"a builtin", []string{"cd", "/tmp"}, 127, missing, "a shell can: hodei run -- sh -c 'cd /tmp'"},
		{"a builtin and an operator", []string{"cd", "/my dir", "&&", "ls"}, 127, missing,
			`a shell can: hodei run -- sh -c 'cd '\''/my dir'\'' && ls'`},
		{"a glob", []string{"./*.sh"}, 127, "no such file or directory", "a shell can: hodei run -- sh -c './*.sh'"},
		{"a redirection", []string{"ls>out"}, 127, missing, "a shell can: hodei run -- sh -c 'ls>out'"},
		{"a variable", []string{"FOO=a b", "make", "x y"}, 127, missing, "hodei run -e 'FOO=a b' -- make 'x y'"},
		{"a path with a space", []string{"/opt/my tools/run"}, 127, missing, check},
		{"a script from here", []string{"./script.sh", "a b"}, 127, missing,
			local + `; the script's text can be: hodei run -- bash -c "$(cat ./script.sh)" ./script.sh 'a b'`},
		{"of Python", []string{"./train.py", "--epochs", "3"}, 127, missing,
			local + `; the script's text can be: hodei run -- python3 -c "$(cat ./train.py)" --epochs 3`},
		{"of Ruby", []string{"./tool.rb"}, 127, missing, local + `; the script's text can be: hodei run -- ruby -e "$(cat ./tool.rb)"`},
		{"without an interpreter", []string{"./plain.sh"}, 127, missing, local + ": build an image that has it, and name it with --image"},
		{"of another interpreter", []string{"./odd"}, 127, missing, local + ": build an image that has it, and name it with --image"},
		{"a program from here", []string{"./binary"}, 127, missing, local + ": build an image that has it, and name it with --image"},
		{"no directory", []string{"cd", "x"}, 126, `no working directory: --workdir "/none": no such file or directory`,
			"name a directory that is there: --workdir DIR"},
		{"there, and no script", []string{"./plain.sh"}, 126,
			"./plain.sh: exec format error: it is no program, and has no #! line that names its interpreter",
			"a shell may run it: hodei run -- sh ./plain.sh"},
		{"another architecture", []string{"/app"}, 126, "/app: exec format error: it is no program for arm64",
			"name an image that is built for the node: --image IMAGE"},
		{"not executable", []string{"./script.sh"}, 126, "permission denied", check},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := notRun{command: test.command, code: test.code, message: test.message, again: "hodei run", here: here}
			if got := n.hint(); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestFirstLineHere(t *testing.T) {
	dir := t.TempDir()
	script, pipe := filepath.Join(dir, "script"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexit\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if line, err := firstLineHere(script); line != "#!/bin/sh\n" || err != nil {
		t.Errorf("got %q, %v", line, err)
	}
	for _, name := range []string{dir, pipe, filepath.Join(dir, "none")} {
		if _, err := firstLineHere(name); err == nil {
			t.Errorf("%s is no script", name)
		}
	}
}
