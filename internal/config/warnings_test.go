package config_test

import (
	"slices"
	"testing"

	"gin-sse/internal/config"
)

func TestASettingWithAMistakeInItsNameIsAWarning(t *testing.T) {
	t.Parallel()
	for name, setting := range map[string]string{
		"HISTROY": "HISTORY", "HISTRY": "HISTORY", "MAX_CLIENT": "MAX_CLIENTS", "MAXCLIENTS": "MAX_CLIENTS", "PUBLISHTOKEN": "PUBLISH_TOKEN",
		"PROT": "PORT", "NATS_ULR": "NATS_URL", "HISTORY_BYTE": "HISTORY_BYTES", "TICK_INTERVALL": "TICK_INTERVAL",
	} {
		want := []string{name + " is not a setting and is ignored. Did you mean " + setting + "?"}
		if got := (config.Config{}).Warnings(map[string]string{name: "5", "PATH": "/bin"}); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestANameWithSomethingBeforeItIsAWarningThatShowsIt(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"\ufeffPORT":  `"\ufeffPORT" is not a setting and is ignored. Did you mean PORT?`,
		"export PORT": `"export PORT" is not a setting and is ignored. Did you mean PORT?`,
		"PORT ":       `"PORT " is not a setting and is ignored. Did you mean PORT?`,
	} {
		if got := (config.Config{}).Warnings(map[string]string{name: "5"}); !slices.Equal(got, []string{want}) {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestOtherProgramsVariablesAreNoMistakes(t *testing.T) {
	t.Parallel()
	others := map[string]string{}
	for _, name := range []string{"HOME", "PATH", "USER", "TERM", "LANG", "PWD", "TMPDIR", "HOSTNAME", "HISTSIZE", "HISTFILE", "TS", "PS1", "SHELL", "HISTORY", "TZ", "GOFLAGS", "POD_IP", "METRICS_PORT", "HOST", "PORTS_OPEN", "SSL_CERT_FILE", "HTTP_PROXY", ""} {
		others[name] = "x"
	}
	if got := (config.Config{}).Warnings(others); len(got) > 0 {
		t.Errorf("%q", got)
	}
}
