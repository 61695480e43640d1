package token

import (
	"testing"
	"time"
)

func TestNoTokenIsIssuedThatNoServerAccepts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		key      string
		topics   []string
		lifetime time.Duration
	}{
		{"", []string{"private/a"}, time.Hour},
		{"short", []string{"private/a"}, time.Hour},
		{string(key), nil, time.Hour},
		{string(key), []string{"private/a", ""}, time.Hour},
		{string(key), []string{"private/a"}, 0},
		{string(key), []string{"private/a"}, -time.Hour},
	} {
		if text, err := Issue([]byte(test.key), test.topics, "", test.lifetime); err == nil || text != "" {
			t.Errorf("%+v: got %q with %v, want an error", test, text, err)
		}
	}
}
