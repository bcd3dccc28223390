package xdg

import "testing"

func TestDirs(t *testing.T) {
	for _, test := range []struct {
		name          string
		env           map[string]string
		config, state string
	}{
		{"nothing set", nil, "", ""},
		{"home", map[string]string{"HOME": "/home/me"}, "/home/me/.config", "/home/me/.local/state"},
		{"relative home", map[string]string{"HOME": "me"}, "", ""},
		{"set", map[string]string{"HOME": "/home/me", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"}, "/c", "/s"},
		{"set, without a home", map[string]string{"XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"}, "/c", "/s"},
		{"relative", map[string]string{"HOME": "/home/me", "XDG_CONFIG_HOME": "c", "XDG_STATE_HOME": "./s"}, "/home/me/.config",
			"/home/me/.local/state"},
	} {
		t.Run(test.name, func(t *testing.T) {
			getenv := func(name string) string { return test.env[name] }
			if got := Config(getenv); got != test.config {
				t.Errorf("Config: got %q, want %q", got, test.config)
			}
			if got := State(getenv); got != test.state {
				t.Errorf("State: got %q, want %q", got, test.state)
			}
		})
	}
}
