package pages

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gin-sse/test/internal/browser"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/npm"
)

// The examples of docs/browser.md, and the module from two bundlers and a compiler that know nothing of it.
func TestFrontEndsBuildAndRunAsTheDocumentShows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	npm.InstallIn(t, dir, os.DirFS("testdata/frontend"))
	if err := os.CopyFS(filepath.Join(dir, "lib"), os.DirFS("../../public/lib")); err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile("../../docs/browser.md")
	if err != nil {
		t.Fatal(err)
	}
	for language, name := range map[string]string{"html": "plain.html", "jsx": "Orders.jsx", "vue": "Orders.vue"} {
		example := regexp.MustCompile("(?s)\n```" + language + "\n(.*?)```\n").FindSubmatch(document)
		if example == nil {
			t.Fatalf("docs/browser.md has no example in %s", language)
		}
		if lines := strings.Count(string(example[1]), "\n"); language != "html" && lines > 16 {
			t.Errorf("the example in %s has %d lines", language, lines)
		}
		if err := os.WriteFile(filepath.Join(dir, name), example[1], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range [][]string{
		{"node_modules/.bin/tsc", "--strict", "--noEmit", "--target", "es2022", "--lib", "es2022,dom", "--module", "esnext", "--moduleResolution", "bundler", "types.ts"},
		{"node_modules/.bin/vite", "build", "--logLevel", "warn"},
		{"node_modules/.bin/esbuild", "lib/shared-event-source.js", "--bundle", "--minify", "--format=esm", "--outfile=dist/bundle.js"},
	} {
		build := child.Command(t.Context(), filepath.Join(dir, command[0]), command[1:]...)
		build.Dir = dir
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command[0], err, out)
		}
	}
	if err := os.Rename(filepath.Join(dir, "plain.html"), filepath.Join(dir, "dist", "plain.html")); err != nil {
		t.Fatal(err)
	}

	s := newStage(t)
	s.change(func() { s.folder = filepath.Join(dir, "dist") })
	b := browser.Chromium(t)
	b.Offline.Store(true) // the plain example has no icon
	built, plain, bundled := b.Open(s.url+"/built/index.html"), b.Open(s.url+"/built/plain.html"), b.Open(s.url+"/elsewhere")
	for _, ready := range []string{"#react [aria-busy=false]", "#vue [aria-busy=false]"} {
		built.Until("document.querySelector('" + ready + "') !== null")
	}
	plain.Until("document.getElementById('connection').textContent === 'Live'")
	bundled.Run("import('/built/bundle.js').then(({ SharedEventSource }) => { window.source = new SharedEventSource('/sse'); source.onmessage = ({ data }) => { window.got = data; }; })")
	bundled.Until("window.source?.live === true")
	s.send(`{"message":"Paid"}`)
	built.Until("[...document.querySelectorAll('li')].map((line) => line.textContent).join() === 'Paid,Paid'")
	plain.Until("document.querySelector('li')?.textContent === 'Paid'")
	bundled.Until(`window.got === '{"message":"Paid"}'`)
	// React's and Vue's components are one page, and ask for the same as the plain one.
	if opened := s.get(&s.opened); opened != 2 {
		t.Errorf("%d streams were opened, want one for the examples and one for the bundle", opened)
	}
}
