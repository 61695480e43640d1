package handlers

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// eachParameter calls check for the parameters of a query, in the order of their names, until it returns an error. A name
// that begins with an underscore is for the client itself, such as a cache buster, and is passed over.
func eachParameter(values url.Values, check func(name string, given []string) error) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if strings.HasPrefix(name, "_") {
			continue
		}
		if err := check(name, values[name]); err != nil {
			return err
		}
	}
	return nil
}

// unknownParameter returns an error that names a parameter which a query does not accept, what it accepts, and what to
// write instead of names that people bring from elsewhere. Their spelling does not matter: last-event-id and lastEventID
// are both lasteventid.
func unknownParameter(name, method, accepted string, elsewhere map[string][]string) error {
	letters := strings.Map(func(r rune) rune {
		if r < 'a' || r > 'z' {
			return -1
		}
		return r
	}, strings.ToLower(name))
	for instead, names := range elsewhere {
		if right, _, _ := strings.Cut(instead, "="); slices.Contains(names, letters) || strings.EqualFold(letters, right) {
			return fmt.Errorf("%q is unknown in the query of a %s: write %s", cut(name, 100), method, instead)
		}
	}
	return fmt.Errorf("%q is unknown in the query of a %s: it accepts %s", cut(name, 100), method, accepted)
}
