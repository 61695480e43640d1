package config

import (
	"reflect"
	"regexp"
	"strings"
	"unicode"
)

const quotes = "\"'`“”„‘’‚«»"

var (
	// unexpandedPath matches what a shell replaces in a path, wherever it stands.
	unexpandedPath = regexp.MustCompile("\\$[A-Za-z_]\\w*|\\$\\{\\w*}?|\\$\\(|%[A-Za-z_]+%|`")
	// unexpandedSecret matches less, because a random secret may have a dollar sign.
	unexpandedSecret = regexp.MustCompile(`^\$[A-Za-z_]\w*(/|$)|^\$\(|\$\{\w+\}`)
)

// checkPasted returns an error for the first setting whose value has something around it that a shell would have
// removed or replaced, but that env files, Compose files and unit files pass on: quotes, white space, ~, $HOME. Such a
// value might be usable, but as another directory or another secret than the one that was meant.
func checkPasted(environment map[string]string) error {
	for field := range reflect.TypeFor[Config]().Fields() {
		name, isSecret, isPath := field.Tag.Get("env"), field.Tag.Get("secret") != "", field.Tag.Get("path") != ""
		value := environment[name]
		inner := unwrap(value)
		var wrong []string
		advice := "write " + name + "=" + inner
		if isSecret {
			advice = "write the value alone"
		}
		if inner != value {
			wrong = append(wrong, "has quotes, white space or a comment around it, which only a shell removes")
		}
		if unexpanded := replaceable(inner, isPath); unexpanded != "" && (isPath || isSecret) {
			wrong = append(wrong, unexpanded)
			if advice = "write the path in full, such as /srv/gin-sse"; isSecret {
				advice = "write the value itself"
			}
		}
		if len(wrong) > 0 {
			return refusal(field, environment, strings.Join(wrong, " and ")+"; "+advice)
		}
	}
	return nil
}

// comment matches the comment at the end of a line of an env file.
var comment = regexp.MustCompile(`\s+#.*$`)

// unwrap returns the value without quotes, white space, carriage returns and a comment around it.
func unwrap(value string) string {
	for {
		inner := strings.TrimFunc(strings.ReplaceAll(value, "\r", ""), isInvisible)
		inner = comment.ReplaceAllString(inner, "")
		inner = strings.Trim(inner, quotes)
		if inner == value {
			return value
		}
		value = inner
	}
}

// replaceable says what a path, or else a secret, has that a shell would have replaced.
func replaceable(value string, isPath bool) string {
	switch {
	case strings.HasPrefix(value, "~/") || isPath && strings.HasPrefix(value, "~"):
		return "begins with ~, which only a shell replaces"
	case len(value) >= 5 && strings.EqualFold(value[:5], "file:"):
		return "begins with file:, which nothing here opens"
	case isPath && strings.Contains(value, "://"):
		return "is a URL"
	case isPath && unexpandedPath.MatchString(value):
		return "has " + unexpandedPath.FindString(value) + ", which only a shell replaces"
	case isPath && strings.ContainsFunc(value, unicode.IsControl):
		return "has a line break or another control character"
	case !isPath && unexpandedSecret.MatchString(value):
		return "has the name of a variable, which only a shell replaces"
	}
	return ""
}

// isInvisible reports whether the character is white space or shows as nothing, such as a byte order mark.
func isInvisible(r rune) bool { return unicode.IsSpace(r) || unicode.In(r, unicode.Cf) }
