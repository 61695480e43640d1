package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
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
		name := field.Tag.Get("env")
		isSecret, isPath := field.Tag.Get("secret") != "", field.Tag.Get("path") != ""
		value := environment[name]
		wrong := around(value)
		advice := "write " + name + "=" + unwrap(value)
		if isSecret {
			advice = "write the value alone"
		}
		if inner := unwrap(value); isPath || isSecret {
			if unexpanded := replaceable(inner, isPath); unexpanded != "" {
				wrong = append(wrong, unexpanded)
				advice = "write the path in full, such as /srv/gin-sse"
				if isSecret {
					advice = "write the value itself"
				}
			}
		}
		switch {
		case len(wrong) == 0:
		case isSecret:
			return fmt.Errorf("%s cannot be used: it %s; %s", name, strings.Join(wrong, " and "), advice)
		default:
			return fmt.Errorf("%s=%q cannot be used: it %s; %s", name, value, strings.Join(wrong, " and "), advice)
		}
	}
	return nil
}

// around says what a value has at its ends that does not belong to it.
func around(value string) (wrong []string) {
	if strings.Contains(value, "\r") {
		wrong = append(wrong, "has a carriage return (from a file of Windows)")
	}
	trimmed := strings.TrimFunc(value, isInvisible)
	if first, _ := utf8.DecodeRuneInString(value); trimmed != "" && first != '\r' && isInvisible(first) {
		wrong = append(wrong, "begins with "+called(first))
	}
	if last, _ := utf8.DecodeLastRuneInString(strings.TrimRight(value, "\r")); isInvisible(last) {
		wrong = append(wrong, "ends with "+called(last))
	}
	switch first, last := edges(trimmed); {
	case isQuote(first):
		wrong = append(wrong, "begins with a quote")
	case isQuote(last):
		wrong = append(wrong, "ends with a quote")
	}
	if comment.MatchString(trimmed) {
		wrong = append(wrong, "has a comment after it")
	}
	return wrong
}

// comment matches the comment at the end of a line of an env file.
var comment = regexp.MustCompile(`\s+#.*$`)

// unwrap returns the value without what around complains about.
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

func edges(text string) (first, last rune) {
	first, _ = utf8.DecodeRuneInString(text)
	last, _ = utf8.DecodeLastRuneInString(text)
	return first, last
}

func isQuote(r rune) bool { return r != utf8.RuneError && strings.ContainsRune(quotes, r) }

// isInvisible reports whether the character is white space or shows as nothing, such as a byte order mark.
func isInvisible(r rune) bool { return unicode.IsSpace(r) || unicode.In(r, unicode.Cf) }

// called returns what people call a character that they cannot see.
func called(r rune) string {
	switch r {
	case ' ':
		return "a space"
	case '\t':
		return "a tab"
	case '\n':
		return "a line break"
	}
	return fmt.Sprintf("the invisible character %U", r)
}
