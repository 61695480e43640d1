package readme

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gin-sse/internal/testcert"
	"gin-sse/internal/testlog"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
)

// elsewhere are the blocks of the documents that need no run here, by what they contain: with the test that reads or does the
// same, or with the reason why none does.
var elsewhere = map[string]string{
	"git clone":        "only its readers know where from",
	"docker ":          "needs Docker",
	"nats stream edit": "needs the program nats",
	"internal/clock":   "is a drawing",
	"Set-Cookie:":      "is a header",
	"W = N ×":          "is a formula",
	"replicas  R =":    "is a formula",
	"go test ":         "TestTheCommandsThatRepeatFiguresNameTestsThatExist",
	"go run ./load":    "TestTheCommandsThatRepeatFiguresNameTestsThatExist",
	"go mod ":          "TestTheStepsToAProgramOfOnesOwnWork",

	`"exp": 1790000000`: "TestTheExamplesOfTheDocumentationIssueTokensThatAreAccepted",
	"import jwt":        "TestTheExamplesOfTheDocumentationIssueTokensThatAreAccepted",
	"jwt.NewWithClaims": "TestTheExamplesOfTheDocumentationIssueTokensThatAreAccepted",
	"base64url(":        "TestTheExamplesOfTheDocumentationIssueTokensThatAreAccepted",

	"listen 80;":              "TestDocsShowTheConfigurationsThatAreTested",
	"tune.bufsize":            "TestDocsShowTheConfigurationsThatAreTested",
	"encode gzip":             "TestDocsShowTheConfigurationsThatAreTested",
	"@restarting":             "TestNginxAnswersAnEventSourceDuringARestartSoThatItComesBack",
	"proxy_request_buffering": "TestNginxPassesLinesOnAsTheyArrive",

	"gin-sse backup copy.db":     "TestBackUpRestoreAndMoveAsDocumented",
	"cp copy.db data/gin-sse.db": "TestBackUpRestoreAndMoveAsDocumented",
	"mv data elsewhere/data":     "TestBackUpRestoreAndMoveAsDocumented",
	"DATA_DIR: /data":            "TestTheCompositionWithADiskHasSettingsThatExist",
	"permissions {":              "TestReplicaNeedsFewPermissions",
	"sync_interval":              "TestNATSTakesTheSettingThatWritesEachMessageToTheDisk",
	"nats pub":                   "TestWhatAnotherProgramPublishesThroughNATSArrivesAsDocumented",
	"NATS_URL=":                  "TestWhatAnotherProgramPublishesThroughNATSArrivesAsDocumented",
	"level=INFO msg=started":     "TestTheLogHasTheFieldsThatTheDocumentShows",
	"docs/examples/answer/":      "TestAnAnswerGoesOnAfterAReloadInASecondTabAndInOtherBrowsers",
	"DATA_DIR=answers":           "TestAnAnswerGoesOnAfterAReloadInASecondTabAndInOtherBrowsers",
	"docs/examples/build-log/":   "TestABuildsLogIsShownFromItsFirstLineAndThenAsItIsWritten",
	"docs/examples/machine/":     "TestADashboardHasTheCurrentValuesOfEachMachineAtOnce",
	"docs/examples/orders/":      "TestOrdersShowsEachCustomerTheirOwnAndForgetsThemWhenTheySignOut",
	"localhost:8000":             "TestOrdersShowsEachCustomerTheirOwnAndForgetsThemWhenTheySignOut",
}

// transcript is a document whose commands run in its order, in one folder, against one server.
type transcript struct {
	t      *testing.T
	server *app.Server
	dir    string
	env    []string
	ids    map[string]string // the ids that this run has, by those of the document
}

// A document says what its commands print, so that a reader can compare. Ids, times and ports differ from run to run.
func TestTheCommandsOfTheDocumentsDoWhatTheySay(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"bash", "curl", "openssl", "node", "php"} {
		need.Program(t, program)
	}
	for _, document := range documents(t) {
		t.Run(document, func(t *testing.T) {
			t.Parallel()
			x := &transcript{t: t, dir: t.TempDir(), ids: map[string]string{}}
			all := blocks(t, document)
			for i := 0; i < len(all); i++ {
				b := all[i]
				switch {
				case b.elsewhere() != "":
				case b.language == "js":
					x.check(b)
				case b.language == "php":
					x.write("notices.php", b.text)
				case b.language == "go" || b.language == "html" || b.language == "jsx" || b.language == "vue":
					// TestEveryEditWorks…, TestTheStepsTo…, TestTheGoOf…, and test/pages
				case b.language == "" || b.language == "sh":
					commands, prints := b.transcript()
					if prints == "" && i+1 < len(all) && all[i+1].isOutput() && all[i+1].elsewhere() == "" {
						i++
						prints = all[i].text
					}
					x.run(b, commands, prints)
				default:
					t.Errorf("%s, line %d: nothing runs or compiles this block: %s", b.document, b.line, b.text)
				}
			}
		})
	}
}

// elsewhere returns where a block is tested, or why it is not.
func (b block) elsewhere() string {
	for text, where := range elsewhere {
		if strings.Contains(b.text, text) {
			return where
		}
	}
	return ""
}

func TestTheTestsOfBlocksThatRunElsewhereExist(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "*", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	var all strings.Builder
	for _, document := range documents(t) {
		for _, b := range blocks(t, document) {
			all.WriteString(b.text)
		}
	}
	for text, where := range elsewhere {
		if strings.HasPrefix(where, "Test") && !strings.Contains(tests.String(), "func "+where+"(") {
			t.Errorf("%q: there is no %s", text, where)
		}
		if !strings.Contains(all.String(), text) {
			t.Errorf("no document has a block with %q", text)
		}
	}
}

// isOutput reports whether the block begins with what a server says.
func (b block) isOutput() bool {
	return regexp.MustCompile(`^(retry:|id:|data:|\{")`).MatchString(b.text)
}

// transcript returns the commands of a block, and what it says that they print.
func (b block) transcript() (commands, prints string) {
	if b.language != "" {
		return b.text, ""
	}
	commands, prints, _ = strings.Cut(b.text, "\n\n")
	return commands, prints
}

// write makes a file in the folder in which the commands run.
func (x *transcript) write(name, text string) {
	x.t.Helper()
	if err := os.WriteFile(filepath.Join(x.dir, name), []byte(text), 0o600); err != nil {
		x.t.Fatal(err)
	}
}

// check lets Node read a module, but not run it.
func (x *transcript) check(b block) {
	x.t.Helper()
	x.write("module.mjs", b.text)
	if out, err := child.Command(x.t.Context(), "node", "--check", filepath.Join(x.dir, "module.mjs")).CombinedOutput(); err != nil {
		x.t.Errorf("%s, line %d: %v\n%s", b.document, b.line, err, out)
	}
}

// start starts a server with the variables that stand before go run main.go.
func (x *transcript) start(command string) {
	x.t.Helper()
	if x.server != nil {
		x.server.Stop(syscall.SIGTERM)
	}
	cmd := app.Command(x.t, "PATH="+os.Getenv("PATH"))
	variables, _, _ := strings.Cut(command, "go run main.go")
	cmd.Args = []string{"bash", "-c", variables + "exec " + cmd.Path}
	cmd.Path, cmd.Dir = "/bin/bash", x.dir
	if strings.Contains(variables, "cert.pem") {
		cert, key, _ := testcert.Write(x.t)
		for name, file := range map[string]string{"cert.pem": cert, "key.pem": key} {
			if err := os.Rename(file, filepath.Join(x.dir, name)); err != nil {
				x.t.Fatal(err)
			}
		}
	}
	x.server = app.StartCommand(x.t, cmd)
}

// begin starts the server of a document that has not shown how, and makes what its readers have from other documents.
func (x *transcript) begin() {
	x.t.Helper()
	x.write("subscribe.key", "only-to-try-it-0123456789-abcdef")
	x.start("SUBSCRIBE_KEY=$(cat subscribe.key) PUBLISH_TOKEN=secret go run main.go")
	cmd := app.Command(x.t, "SUBSCRIBE_KEY=only-to-try-it-0123456789-abcdef")
	cmd.Args = append(cmd.Args, "token", "private/orders/alice", "--for", "1h")
	token, err := cmd.Output()
	if err != nil {
		x.t.Fatal(err)
	}
	x.env = []string{"TOKEN=" + strings.TrimSpace(string(token))}
}

// endless are commands that go on until they are interrupted.
var endless = regexp.MustCompile(`curl -N|while sleep`)

// id is one of a message, or of a stream's beginning.
var id = regexp.MustCompile(`\b[0-9a-z]{8}-\d+\b`)

// run runs commands in the shell, and compares what they print.
func (x *transcript) run(b block, commands, prints string) {
	x.t.Helper()
	lines := strings.Split(strings.TrimSuffix(commands, "\n"), "\n")
	if last := lines[len(lines)-1]; strings.HasSuffix(last, "go run main.go") {
		if before := lines[:len(lines)-1]; len(before) > 0 {
			x.run(b, strings.Join(before, "\n"), "")
		}
		x.start(last)
		return
	}
	if x.server == nil && strings.Contains(commands, "localhost:3000") {
		x.begin()
	}
	if x.server != nil {
		commands = strings.ReplaceAll(commands, "localhost:3000", "localhost:"+x.server.Port)
		commands = strings.ReplaceAll(commands, "go run main.go", app.Command(x.t).Path)
		if php, err := os.ReadFile(filepath.Join(x.dir, "notices.php")); err == nil {
			x.write("notices.php", strings.ReplaceAll(string(php), "localhost:3000", "localhost:"+x.server.Port))
		}
	}
	commands = id.ReplaceAllStringFunc(commands, func(given string) string {
		if x.ids[given] == "" {
			x.t.Errorf("%s, line %d: no command before has printed the id %s", b.document, b.line, given)
		}
		return x.ids[given]
	})

	ctx, cancel := context.WithTimeout(context.Background(), testwait.Limit)
	defer cancel()
	cmd := child.Command(ctx, "bash", "-c", commands)
	cmd.SysProcAttr.Setpgid = true // all processes of a pipeline end together
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Dir, cmd.Env = x.dir, append(os.Environ(), x.env...)
	out, said := new(testlog.Log), new(testlog.Log)
	cmd.Stdout, cmd.Stderr = out, said
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if endless.MatchString(commands) {
		complaint := ""
		testwait.Until(x.t, func() string {
			complaint = x.compare(out.String(), prints)
			if ctx.Err() != nil { // say what is missing
				x.t.Fatalf("%s, line %d: %s", b.document, b.line, complaint)
			}
			return complaint
		})
		cancel()
		<-ended
		return
	}
	if err := <-ended; err != nil {
		x.t.Fatalf("%s, line %d: %v\n%s\nprint %s and say %s", b.document, b.line, err, commands, out, said)
	}
	if complaint := x.compare(out.String(), prints); complaint != "" {
		x.t.Errorf("%s, line %d: %s", b.document, b.line, complaint)
	}
}

// compare says what the output lacks. It remembers which id of the document is which one of this run.
func (x *transcript) compare(output, prints string) (complaint string) {
	// An answer in JSON has no end of line.
	got := nonEmpty(regexp.MustCompile(`\}(retry:|\{"|<li>)`).ReplaceAllString(output, "}\n$1"))
	if prints == "" {
		switch {
		case strings.Contains(output, `{"error":`):
			return "the commands print an error: " + output
		case endlessHasBegun.MatchString(output) || output == "":
			return ""
		}
		return "the commands print " + output
	}
	want := nonEmpty(prints)
	for begin := range got {
		if len(got)-begin < len(want) {
			break
		}
		if slices.EqualFunc(want, got[begin:begin+len(want)], func(want, got string) bool { return general(want) == general(got) }) {
			for i, line := range want {
				ours := id.FindAllString(got[begin+i], -1)
				for n, given := range id.FindAllString(line, -1) {
					if before := x.ids[given]; before != "" && before != ours[n] {
						return fmt.Sprintf("%s is %s here, and was %s before", given, ours[n], before)
					}
					x.ids[given] = ours[n]
				}
			}
			return ""
		}
	}
	return fmt.Sprintf("the commands print\n%s\nwhich has nowhere\n%s", output, prints)
}

// endlessHasBegun matches what shows that a command without an output in the document works.
var endlessHasBegun = regexp.MustCompile(`event:position|"id":`)

func nonEmpty(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return line == "" })
}

// general returns a line without what differs from run to run.
func general(line string) string {
	for _, change := range []struct{ what, to string }{
		{id.String(), "ID"},
		{`^retry:\d{4}$`, "retry:MS"},
		{`^time:\d{13}$`, "time:MS"},
		{`"expires":\d{10}`, `"expires":S`},
		{`\d{1,2}:\d\d:\d\d [AP]M`, "CLOCK"},
		{`<li>\d\d:\d\d `, "<li>CLOCK "},
		{`\d{5} bytes together`, "BYTES together"},
	} {
		line = regexp.MustCompile(change.what).ReplaceAllString(line, change.to)
	}
	return line
}
