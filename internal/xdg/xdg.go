// Package xdg says in which directories a user's files belong, on every system alike, by
// https://specifications.freedesktop.org/basedir-spec. Start with [Config] and [State]. It only
// makes names: whether a directory exists is its callers' affair.
package xdg

import "path/filepath"

// Config returns the directory of a user's settings: $XDG_CONFIG_HOME, else ~/.config. It is "" where
// neither XDG_CONFIG_HOME nor HOME is an absolute path.
func Config(getenv func(string) string) string {
	return dir(getenv, "XDG_CONFIG_HOME", ".config")
}

// State returns the directory of what a user's programs keep: $XDG_STATE_HOME, else ~/.local/state. It
// is "" where neither XDG_STATE_HOME nor HOME is an absolute path.
func State(getenv func(string) string) string {
	return dir(getenv, "XDG_STATE_HOME", filepath.Join(".local", "state"))
}

// dir ignores relative paths, as the specification says.
func dir(getenv func(string) string, variable, belowHome string) string {
	if dir := getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, belowHome)
	}
	return ""
}
