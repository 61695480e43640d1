package secret

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gin-sse/internal/testlog"
)

func TestAFileThatCannotBeUsedIsOneLineAndSoIsItsEnd(t *testing.T) {
	var log testlog.Log
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	path := filepath.Join(t.TempDir(), "file")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var used []string
	write("one")
	f, err := Open("SETTING", func(contents [][]byte) error {
		if string(contents[0]) == "bad" {
			return errors.New("it is bad")
		}
		used = append(used, string(contents[0]))
		return nil
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	const bad, good = `level=ERROR msg="SETTING: the new content cannot be used, and what was read before stays in force" error="it is bad"`, `level=INFO msg="SETTING: read again"`
	for i, step := range []struct {
		text      string
		used      []string
		bad, good int
	}{
		{"one", []string{"one"}, 0, 0},
		{"two", []string{"one", "two"}, 0, 1},
		{"bad", []string{"one", "two"}, 1, 1},
		{"bad", []string{"one", "two"}, 1, 1},
		{"two", []string{"one", "two"}, 1, 2}, // as before: nothing is new, but the trouble is over
		{"bad", []string{"one", "two"}, 2, 2},
		{"three", []string{"one", "two", "three"}, 2, 3},
	} {
		write(step.text)
		f.Reload(time.Now())
		if !slices.Equal(used, step.used) || len(log.Lines(bad)) != step.bad || len(log.Lines(good)) != step.good {
			t.Errorf("step %d: used %q, and the log has %s", i, used, log.String())
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f.Reload(time.Now())
	if lines := log.Lines("no such file"); len(lines) != 1 {
		t.Errorf("without the file the log has %s", log.String())
	}
}

func TestSecretsThatStayAreNotInterrupted(t *testing.T) {
	t.Parallel()
	l := Of("one", "", "two", "one")
	all := l.All()
	l.set([][]byte{[]byte("three"), []byte("two")})
	for _, s := range all {
		if removed := s.Accepted.Err() != nil; removed != (string(s.Value) == "one") {
			t.Errorf("%s was removed: %t", s.Value, removed)
		}
	}
	for text, want := range map[string]bool{"one": false, "two": true, "three": true, "": false, "thre": false} {
		if got := l.Has(text); got != want {
			t.Errorf("it has %q: %t", text, got)
		}
	}
	if len(Of("").All()) > 0 {
		t.Error("an empty list has secrets")
	}
}

func TestAListFollowsItsFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old")
	l, err := OpenList("PUBLISH_TOKEN_FILE", path, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		change func()
		old    bool
		new    bool
	}{
		{func() {}, true, false},
		{func() { write("new\n\nold\n") }, true, true},
		{func() { write("new") }, false, true},
		{func() { write("") }, false, true}, // a file that cannot be used changes nothing
		{func() {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, false, true},
	} {
		step.change()
		l.Reload(time.Now())
		if l.Has("old") != step.old || l.Has("new") != step.new || l.Has("") {
			t.Errorf("old is accepted: %t, want %t; new: %t, want %t; nothing: %t", l.Has("old"), step.old, l.Has("new"), step.new, l.Has(""))
		}
	}
}
