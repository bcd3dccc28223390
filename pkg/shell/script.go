package shell

import (
	"path"
	"slices"
	"strings"
)

// operators are words that a shell acts on.
var operators = []string{"&&", "||", "|", ";", "&", ">", ">>", "<", "2>", "2>&1", "&>", "<<<"}

// builtins are the commands that a shell has, and images have no program for.
var builtins = []string{".", "source", "cd", "export", "unset", "set", "alias", "eval", "exec", "exit", "return", "shift", "ulimit",
	"umask", "trap", "wait", "read", "type", "command", "if", "for", "while", "until", "case", "function", "{", "(", "!", "[[", "declare",
	"local", "pushd", "popd", "shopt", "let"}

// Needs tells that a word of a command names no program and makes sense to a shell: an operator, a builtin, a
// pattern, a whole line.
func Needs(word string) bool {
	if slices.Contains(builtins, word) || slices.Contains(operators, word) {
		return true
	}
	if strings.ContainsAny(word, "|&;<>()$`*?~\n") {
		return true
	}
	return strings.ContainsAny(word, " \t") && !strings.HasPrefix(word, "/") // a path may have spaces
}

// Text returns a command as a shell would have been given it: its operators are not quoted, and a command of one
// word is a line already.
func Text(command []string) string {
	if len(command) == 1 {
		return command[0]
	}
	words := []string{command[0]}
	for _, word := range command[1:] {
		if !slices.Contains(operators, word) {
			word = Quote(word)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// interpreters are those that take a program as an argument, and by which flag.
var interpreters = map[string]string{
	"sh": "-c", "bash": "-c", "dash": "-c", "ash": "-c", "zsh": "-c", "ksh": "-c", "python": "-c", "python3": "-c",
	"perl": "-e", "ruby": "-e", "node": "-e",
}

// Inline returns the command, as one types it, that hands the text of the script name to the interpreter that line,
// its first, names, with args; it is empty if no interpreter is named, or one that takes no text as an argument.
func Inline(line, name string, args []string) string {
	line, ok := strings.CutPrefix(line, "#!")
	fields := strings.Fields(line)
	if !ok || len(fields) == 0 {
		return ""
	}
	program := path.Base(fields[0])
	if program == "env" && len(fields) > 1 {
		program = path.Base(fields[len(fields)-1])
	}
	flag := interpreters[program]
	if flag == "" {
		return ""
	}
	text := program + " " + flag + ` "$(cat ` + Quote(name) + `)"`
	if flag == "-c" && strings.HasSuffix(program, "sh") {
		text += " " + Quote(name) // its $0
	}
	if len(args) > 0 {
		text += " " + Line(args)
	}
	return text
}
