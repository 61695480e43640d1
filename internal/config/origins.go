package config

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"
)

// checkOrigins returns an error unless each origin is spelled as browsers send it, letter for letter, or * stands
// alone. An origin that no browser sends would never match. The error says what to write instead, if that is known.
func checkOrigins(origins []string) error {
	for _, origin := range origins {
		u, err := url.Parse(origin)
		switch {
		case origin == "*" && len(origins) == 1, origin == "file://": // of Electron, and of web views on Android
		case strings.Contains(origin, "*"):
			return fmt.Errorf("%q has a *, which stands for all origins when it is alone, and otherwise for none", origin)
		case strings.ContainsFunc(origin, func(r rune) bool { return r > unicode.MaxASCII }):
			return fmt.Errorf("%q is not ASCII: write the host as browsers send it, such as xn--exmple-cua.com", origin)
		case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			return fmt.Errorf("%q is not a scheme, a host and perhaps a port, such as https://example.com", origin)
		case asSent(u) != origin:
			return fmt.Errorf("a browser never sends %q, write %q", origin, asSent(u))
		}
	}
	return nil
}

// asSent returns the origin of a URL as browsers send it.
func asSent(u *url.URL) string {
	host := strings.TrimSuffix(u.Host, ":")
	switch u.Scheme { // an application's own scheme leaves the host as it is
	case "http":
		host = strings.ToLower(strings.TrimSuffix(host, ":80"))
	case "https":
		host = strings.ToLower(strings.TrimSuffix(host, ":443"))
	}
	return u.Scheme + "://" + host
}
