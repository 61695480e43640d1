// Package secret reads secrets from files, and reads them again when they change: tokens, keys, certificates.
package secret

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"time"
)

// Files are files that may change while the server runs, such as those of a certificate and its key.
type Files struct {
	settings string
	paths    []string
	use      func(contents [][]byte) error
	used     [][]byte
	problem  string // which the log was told of last
}

// Open reads the files that settings name, and hands what they contain to use. If use returns an error, it must have changed
// nothing. The error is that of reading, or of use.
func Open(settings string, use func(contents [][]byte) error, paths ...string) (*Files, error) {
	f := &Files{settings: settings, paths: paths, use: use}
	_, err := f.read()
	return f, err
}

// Reload calls use again if the files have changed. If they cannot be read or used, what was read before stays in force,
// and the log has a line. Without f it does nothing. The clock calls Reload; two calls must not overlap.
func (f *Files) Reload(time.Time) {
	if f == nil {
		return
	}
	changed, err := f.read()
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	switch {
	case err != nil && problem != f.problem:
		slog.Error(f.settings+": the new content cannot be used, and what was read before stays in force", "error", err)
	case err == nil && (changed || f.problem != ""):
		slog.Info(f.settings + ": read again")
	}
	f.problem = problem
}

// read does not go by the time of the last change, which tools that copy files may set to any other.
func (f *Files) read() (changed bool, err error) {
	contents := make([][]byte, len(f.paths))
	for i, path := range f.paths {
		if contents[i], err = os.ReadFile(path); err != nil {
			return false, err
		}
	}
	if slices.EqualFunc(contents, f.used, bytes.Equal) {
		return false, nil
	}
	if err = f.use(contents); err == nil {
		f.used = contents
	}
	return err == nil, err
}
