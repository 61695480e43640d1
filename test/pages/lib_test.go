package pages

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
)

// The rules of one page, on simulated time.
func TestSharedEventSourceInOnePage(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("node")
	if err != nil {
		need.Missing(t, "node", "apt-get install nodejs")
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "lib"), os.DirFS("../../public/lib")); err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("testdata/lib.test.mjs")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"package.json": []byte(`{"type":"module"}`), "lib.test.mjs": rules} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := child.Command(t.Context(), program, "--test", "--test-reporter=spec", "lib.test.mjs")
	run.Dir = dir
	if out, err := run.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
