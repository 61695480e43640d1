package command

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gin-sse/internal/config"
	"gin-sse/internal/secret"
	"gin-sse/internal/token"
)

var (
	key        = []byte("0123456789abcdef0123456789abcdef")
	everything = []string{"*"} // is public
)

func TestUsageListsEverySettingWithItsDefaultAndWhatItAccepts(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	if err := usage(&text); err != nil {
		t.Fatal(err)
	}
	_, settings, found := strings.Cut(text.String(), "environment variables")
	if !found {
		t.Fatalf("there is no list in %s", text.String())
	}
	fields := 0
	for field := range reflect.TypeFor[config.Config]().Fields() {
		fields++
		name, initial, accepts := field.Tag.Get("env"), field.Tag.Get("envDefault"), field.Tag.Get("accepts")
		if name == "" || accepts == "" {
			t.Errorf("%s has no variable, or does not say what it accepts", field.Name)
		}
		listed := 0
		for line := range strings.Lines(settings) {
			if words := strings.Fields(line); len(words) > 0 && words[0] == name {
				listed++
				if !strings.HasSuffix(line, "  "+accepts+"\n") || initial != "" && words[1] != initial {
					t.Errorf("%s is listed as %q, want default %q and %q", name, line, initial, accepts)
				}
			}
		}
		if listed != 1 {
			t.Errorf("%s is listed %d times", name, listed)
		}
	}
	if fields < 20 {
		t.Errorf("only %d settings", fields)
	}
	for _, command := range []string{"gin-sse healthcheck ", "gin-sse healthcheck ready ", "gin-sse --help ", "gin-sse --version "} {
		if !strings.Contains(text.String(), "\n  "+command) {
			t.Errorf("the commands lack %q", command)
		}
	}
}

func TestVersionIsOneLineWithGosVersion(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	if err := version(&text); err != nil || !strings.HasPrefix(text.String(), "gin-sse ") || strings.Count(text.String(), "\n") != 1 || !strings.Contains(text.String(), " go1.") {
		t.Errorf("error %v, and it says %q", err, text.String())
	}
}

func TestTheTokenCommandPrintsATokenThatTheServerTakes(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]time.Duration{
		"private/orders/alice":                                         time.Hour,
		"private/orders/alice --for 30m":                               30 * time.Minute,
		"--for=30m private/orders/alice":                               30 * time.Minute,
		"-for 24h private/builds/* -sub alice private/orders/alice":    24 * time.Hour,
		"private/builds/* --for 1s private/orders/alice --sub o'brien": time.Second,
		"private/*": time.Hour,
	} {
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			if err := issue(strings.Fields(args), secret.Of(string(key)), everything, &out); err != nil {
				t.Fatalf("%s: %v", args, err)
			}
			text, newline := strings.CutSuffix(out.String(), "\n")
			request := httptest.NewRequest(http.MethodGet, "/sse", nil)
			request.Header.Set("Authorization", "Bearer "+text)
			grant, err := token.New(secret.Of(string(key)), everything).Check(request, []string{"private/orders/alice"})
			if !newline || err != nil || time.Until(grant.Until) != want {
				t.Errorf("%s: it printed %q, which opens the topic for %v with %v; want %v", args, out.String(), time.Until(grant.Until), err, want)
			}
		})
	}
}

func TestTheTokenCommandSaysWhatItCannotUse(t *testing.T) {
	t.Parallel()
	good := string(key)
	for _, test := range []struct{ args, key, want string }{
		{"", good, "a token needs a topic, as in gin-sse token private/orders/alice --for 1h"},
		{"--for 1h", good, "a token needs a topic, as in "},
		{"private/a", "", "SUBSCRIBE_KEY is not set: "},
		{"private/a", "too short", "SUBSCRIBE_KEY cannot be used: it takes a secret of at least 32 bytes"},
		{"private//a", good, `"private//a" is no topic to follow: it takes 1 to 200 letters`},
		{"private/*/a", good, `"private/*/a" is no topic to follow: `},
		{"private/a*", good, `"private/a*" is no topic to follow: `},
		{"private/a,private/b", good, `"private/a,private/b" is no topic to follow: `},
		{"orders/alice", good, `"orders/alice" needs no token: only topics that begin with private/ do`},
		{"private/a *", good, `"*" needs no token: only topics that begin with private/ do`},
		{"private/a --for fast", good, `--for "fast" cannot be used: it takes a duration of a second or more, such as 30m or 24h`},
		{"private/a --for 60", good, `--for "60" cannot be used: `},
		{"private/a --for 7d", good, `--for "7d" cannot be used: `},
		{"private/a --for -1h", good, `--for "-1h" cannot be used: `},
		{"private/a --for 0", good, `--for "0" cannot be used: `},
		{"private/a --for 10ms", good, `--for "10ms" cannot be used: `},
		{"private/a --for", good, "flag needs an argument: -for: give one topic or more, --for a duration, "},
		{"private/a --ttl 1h", good, "flag provided but not defined: -ttl: give one topic or more, --for a duration, "},
		{"--help", good, "flag: help requested: give one topic or more, --for a duration, "},
		{strings.Repeat("private/a ", 1001), good, "a token cannot list 1001 topics: it takes 1 to 1000"},
		{strings.Repeat("private/some/longer/name ", 400), good, "the token has "},
	} {
		var out strings.Builder
		err := issue(strings.Fields(test.args), secret.Of(test.key), everything, &out)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || out.Len() > 0 {
			t.Errorf("%.40s: %v, and it printed %q; want %s", test.args, err, out.String(), test.want)
		}
	}
}

func TestTheTokenCommandReportsThatItCannotPrint(t *testing.T) {
	t.Parallel()
	if err := issue([]string{"private/a"}, secret.Of(string(key)), everything, full{}); !errors.Is(err, errFull) {
		t.Errorf("got %v, want %v", err, errFull)
	}
}

var errFull = errors.New("no space left on device")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }
