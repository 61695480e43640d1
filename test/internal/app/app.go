// Package app builds the program, runs it as its users do, and asks it over HTTP.
package app

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"testing"
)

// binary is the program. Main builds it once for all tests of a package.
var binary string

// Main is the TestMain of a package that runs the program. After the tests it calls end, in which what they share ends.
func Main(m *testing.M, end ...func()) {
	code, err := buildAndRun(m, end)
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M, end []func()) (code int, err error) {
	dir, err := os.MkdirTemp("", "gin-sse-test")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary = filepath.Join(dir, "gin-sse")
	if err := Build(binary, "."); err != nil {
		return 0, err
	}
	flag.Parse()
	// Many tests wait, some for a minute: more of them at once than there may be processors.
	if err := flag.Set("test.parallel", "4"); err != nil {
		return 0, err
	}
	defer func() {
		for _, end := range end {
			end()
		}
	}()
	code = m.Run()
	return code, ForgetResult()
}

// Build compiles a package of the product, with the race detector if the tests have it.
func Build(program, pkg string, flags ...string) error {
	build := exec.Command("go", append([]string{"build", "-o", program}, flags...)...)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "-race" && setting.Value == "true" {
				build.Args = append(build.Args, "-race")
			}
		}
	}
	build.Args = append(build.Args, pkg)
	build.Dir = Root()
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	return nil
}

// Root is the folder of the product. Each package of tests is two folders below it.
func Root() string { return filepath.Join("..", "..") }

// ForgetResult keeps "go test" from showing this result again the next time. It does not know that the program has
// changed, as that is outside of this module. Without the list of the files that a test opened, it runs the test again.
func ForgetResult() error {
	list := flag.Lookup("test.testlogfile").Value.String()
	if list == "" {
		return nil
	}
	if err := os.Remove(list); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
