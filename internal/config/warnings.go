package config

import (
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gin-sse/internal/capacity"
)

// Warn logs the warnings about the environment.
func (cfg Config) Warn() {
	for _, warning := range cfg.Warnings(Environment()) {
		slog.Warn(warning)
	}
}

// Warnings returns a sentence for each setting that can be used but is probably a mistake.
func (cfg Config) Warnings(environment map[string]string) []string {
	warnings := mistyped(environment)
	if cfg.SubscribeKey+cfg.SubscribeKeyFile != "" && slices.Contains(cfg.AllowedOrigins, "*") {
		warnings = append(warnings, "ALLOWED_ORIGINS=* and SUBSCRIBE_KEY are both set: browsers then send neither cookies nor tokens from other sites. List the origins that need private topics.")
	}
	if memory := capacity.Memory(); !capacity.Fits(cfg.HistoryBytes, memory) {
		warnings = append(warnings, fmt.Sprintf("HISTORY_BYTES=%d leaves no room for clients in the memory limit, of which %d bytes are for Go. Make it a third of that, HISTORY_BYTES=%d, or raise the limit.", cfg.HistoryBytes, memory, memory/3))
	}
	return warnings
}

// mistyped returns a warning for each variable that is probably a setting with a mistake in its name.
func mistyped(environment map[string]string) (warnings []string) {
	settings := []string{"SSL_CERT_FILE"} // this one is Go's own, and looks like TLS_CERT_FILE
	for field := range reflect.TypeFor[Config]().Fields() {
		settings = append(settings, field.Tag.Get("env"))
	}
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		if slices.Contains(settings, name) {
			continue
		}
		closest, least := "", 3
		for _, setting := range settings[1:] {
			// In a short name two mistakes make another word: HOME is not HOST.
			if n := distance(bare(name), setting, least); n < least && n <= len(setting)/4 {
				closest, least = setting, n
			}
		}
		if closest != "" {
			if bare(name) != name {
				name = strconv.Quote(name) // to show what cannot be seen
			}
			warnings = append(warnings, fmt.Sprintf("%s is not a setting and is ignored. Did you mean %s?", name, closest))
		}
	}
	return warnings
}

// bare returns a name without what an env file may have before it: a byte order mark, spaces, the word export.
func bare(name string) string {
	name = strings.TrimFunc(name, isInvisible)
	return strings.TrimFunc(strings.TrimPrefix(name, "export "), isInvisible)
}

// distance returns how many edits turn a into b: letters to add, remove or replace, or neighbours to swap. If they are more
// than most, it returns any number above that.
func distance(a, b string, most int) int {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	if a == "" || b == "" || most == 0 {
		return max(len(a), len(b))
	}
	edits := min(distance(a[1:], b, most-1), distance(a, b[1:], most-1), distance(a[1:], b[1:], most-1))
	if len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] {
		edits = min(edits, distance(a[2:], b[2:], most-1))
	}
	return 1 + edits
}
