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
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		if name == "SSL_CERT_FILE" { // a setting of Go's own that looks like TLS_CERT_FILE
			continue
		}
		closest, least := "", 3
		for field := range reflect.TypeFor[Config]().Fields() {
			setting := field.Tag.Get("env")
			if name != setting && bare(name) == setting {
				closest = setting
				break
			}
			mistakes := distance(name, setting)
			if mistakes == 0 {
				closest = ""
				break
			}
			// In a short name two mistakes make another word: HOME is not HOST.
			if mistakes < least && mistakes <= len(setting)/4 {
				closest, least = setting, mistakes
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

// distance returns how many edits turn a into b: letters to add, remove or replace, or neighbours to swap.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			rows[i][j] = min(replace, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
