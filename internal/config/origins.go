package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// checkOrigins returns an error unless each origin is spelled as browsers send it, letter for letter, or * stands
// alone. An origin that no browser sends would never match. The error says what to write instead, if that is known.
func checkOrigins(origins []string) error {
	for _, origin := range origins {
		if origin == "*" && len(origins) == 1 {
			continue
		}
		switch sent, err := asSent(origin); {
		case err != nil:
			return fmt.Errorf("%q %w", origin, err)
		case sent != origin:
			return fmt.Errorf("a browser never sends %q, write %q", origin, sent)
		}
	}
	return nil
}

// asSent returns an origin as browsers send it.
func asSent(origin string) (string, error) {
	scheme, rest, found := strings.Cut(origin, "://")
	switch {
	case strings.Contains(origin, "*"):
		return "", errors.New("has a *, which stands for all origins when it is alone, and otherwise for none")
	case strings.EqualFold(origin, "null"):
		return "", errors.New("is what a browser sends for any page without an origin, of any site: it cannot be allowed")
	case !found || !isScheme(scheme):
		return "", errors.New("has no scheme, such as https://")
	case strings.EqualFold(origin, "file://"): // of Electron, and of web views on Android; a browser sends null
		return "file://", nil
	}
	host, _, slash := strings.Cut(rest, "/")
	u, err := url.Parse(strings.ToLower(scheme) + "://" + host)
	if err != nil || u.Host != host || u.Hostname() == "" || strings.ContainsAny(rest, " ?#@\\%") {
		return "", errors.New("is not a scheme, a host and perhaps a port")
	}
	suggestion := strings.ToLower(scheme) + "://" + host
	switch strings.ToLower(scheme) {
	case "http", "https":
		name, err := hostAsSent(u.Hostname())
		if err != nil {
			return "", err
		}
		port, err := portAsSent(u, strings.ToLower(scheme))
		if err != nil {
			return "", err
		}
		suggestion = strings.ToLower(scheme) + "://" + name + port
	case "ftp", "ws", "wss", "file", "data", "blob", "javascript", "about":
		return "", errors.New("has a scheme whose pages have no origin")
	default: // an application's own, whose host browsers leave as it is
		if strings.ContainsFunc(host, func(r rune) bool { return r > '~' }) {
			return "", errors.New("has a host that is not ASCII")
		}
	}
	if slash && strings.Trim(rest[len(host):], "/") != "" {
		return "", fmt.Errorf("has a path: write %q", suggestion)
	}
	return suggestion, nil
}

// hostAsSent returns the host of an origin of http or https as browsers send it.
func hostAsSent(host string) (string, error) {
	if strings.Contains(host, ":") {
		address, err := netip.ParseAddr(host)
		if err != nil || address.Zone() != "" {
			return "", errors.New("has no IPv6 address between its brackets")
		}
		return "[" + address.String() + "]", nil
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last != "" && strings.Trim(last, "0123456789") == "" { // browsers take it for an IPv4 address, and spell that out
		address, err := netip.ParseAddr(host)
		if err != nil {
			return "", errors.New("has no IPv4 address with four numbers")
		}
		return address.String(), nil
	}
	ascii, err := idna.Lookup.ToASCII(host)
	if err != nil { // that profile refuses underscores, which browsers take
		ascii, err = idna.Punycode.ToASCII(strings.ToLower(host))
	}
	if err != nil {
		return "", fmt.Errorf("has a host that is no name: %w", err)
	}
	return ascii, nil
}

// portAsSent returns the port of an origin with its colon, or nothing if it is the default one.
func portAsSent(u *url.URL, scheme string) (string, error) {
	if u.Port() == "" {
		return "", nil // also for a colon without a port
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return "", errors.New("has a port that is not one of 0 to 65535")
	}
	if scheme == "http" && port == 80 || scheme == "https" && port == 443 {
		return "", nil
	}
	return ":" + strconv.FormatUint(port, 10), nil
}

// isScheme reports whether a scheme has the form that URLs require.
func isScheme(scheme string) bool {
	for i, r := range strings.ToLower(scheme) {
		if !(r >= 'a' && r <= 'z' || i > 0 && (r >= '0' && r <= '9' || strings.ContainsRune("+-.", r))) {
			return false
		}
	}
	return scheme != ""
}
