package examples

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gin-sse/internal/testlog"
	"gin-sse/internal/testport"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/browser"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
)

const (
	answerText     = "document.querySelector('main').textContent"
	answerState    = "document.querySelector('output').value"
	answerIsWhole  = answerState + " === 'Finished'"
	answerIsShown  = "location.pathname.length > 1 && " + answerText + ".length > 100"
	askForAnAnswer = "document.querySelector('form').requestSubmit()"
)

// answering is docs/examples/answer, started with the two commands of its README on other ports.
type answering struct {
	t             *testing.T
	root          string // a copy of the project, as far as the app needs it
	dir           string // of the push server
	model         string // all that the model writes
	push          *app.Server
	pushEnv       []string
	appEnv, words []string // of the app's command
	url           string   // of the app
	killApp       func()
}

// startAnswering starts it with a model that writes its text so many times over.
func startAnswering(t *testing.T, times int) *answering {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		need.Missing(t, "node", "apt-get install nodejs")
	}
	x := &answering{t: t, root: t.TempDir(), dir: t.TempDir()}
	for _, folder := range []string{"public/lib", "docs/examples/answer"} {
		if err := os.CopyFS(filepath.Join(x.root, folder), os.DirFS(filepath.Join("..", "..", folder))); err != nil {
			t.Fatal(err)
		}
	}
	example := filepath.Join(x.root, "docs", "examples", "answer")
	readme, err := os.ReadFile(filepath.Join(example, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	model, err := os.ReadFile(filepath.Join(example, "model.txt"))
	if err != nil {
		t.Fatal(err)
	}
	x.model = strings.Repeat(string(model), times)
	if err := os.WriteFile(filepath.Join(example, "model.txt"), []byte(x.model), 0o600); err != nil {
		t.Fatal(err)
	}
	pushPort, appPort := fmt.Sprint(testport.Free(t)), fmt.Sprint(testport.Free(t))
	x.url = "http://localhost:" + appPort
	for _, block := range strings.Split(strings.ReplaceAll(string(readme), "http://localhost:4000", x.url), "```sh\n")[1:] {
		commands, _, _ := strings.Cut(block, "```")
		env, words := settings(commands)
		switch {
		case strings.Join(words, " ") == "go run main.go":
			x.pushEnv = append(env, "PORT="+pushPort)
		case len(words) == 2 && words[0] == "node":
			x.appEnv, x.words = append(env, "PORT="+appPort, "PUSH_URL=http://localhost:"+pushPort), words
		}
	}
	if x.pushEnv == nil || x.words == nil {
		t.Fatal("the README does not have both commands")
	}
	x.startPush()
	x.startApp()
	return x
}

// settings splits what is typed into a shell into variables and a command.
func settings(typed string) (env, command []string) {
	for _, word := range strings.Fields(typed) {
		switch {
		case strings.Contains(word, "="):
			env = append(env, word)
		case word != "export":
			command = append(command, word)
		}
	}
	return env, command
}

// use replaces the model of the app by the body of a function that writes, and expects these words of it.
func (x *answering) use(body, words string) {
	x.t.Helper()
	x.killApp()
	name := filepath.Join(x.root, "docs", "examples", "answer", "answer.mjs")
	app, err := os.ReadFile(name)
	if err != nil {
		x.t.Fatal(err)
	}
	const head = "async function* model(question, signal) {\n"
	before, after, found := strings.Cut(string(app), head)
	_, after, ends := strings.Cut(after, "\n}\n")
	if !found || !ends {
		x.t.Fatal("the app has no model")
	}
	if err := os.WriteFile(name, []byte(before+head+body+"\n}\n"+after), 0o600); err != nil {
		x.t.Fatal(err)
	}
	x.model = words
	x.startApp()
}

func (x *answering) startPush() {
	x.t.Helper()
	x.push = app.StartIn(x.t, x.dir, x.pushEnv...)
}

func (x *answering) startApp() {
	x.t.Helper()
	cmd := child.Command(context.Background(), x.words[0], x.words[1:]...)
	cmd.Dir = x.root
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, x.appEnv...)
	out := new(testlog.Log)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.killApp = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // its status is that of a program that was killed
		if said := strings.TrimSpace(out.String()); said != "Open "+x.url {
			x.t.Errorf("the app said:\n%s", said)
		}
	})
	x.t.Cleanup(x.killApp)
	out.Wait(x.t, "Open "+x.url)
}

// ask asks a question in a new tab, and waits until the answer grows there.
func (x *answering) ask(b *browser.Browser) *browser.Tab {
	x.t.Helper()
	p := b.Open(x.url)
	p.Until("document.querySelector('form') !== null")
	p.Run(askForAnAnswer)
	p.Until(answerIsShown)
	return p
}

// wantsAll waits until the answer has ended, and fails the test unless the tab shows each word once and in order.
func (x *answering) wantsAll(tabs ...*browser.Tab) {
	x.t.Helper()
	for n, p := range tabs {
		for !browser.Evaluate[bool](p, answerIsWhole) { // on a busy machine the model takes long
			shown := browser.Evaluate[int](p, answerText+".length")
			p.Until(fmt.Sprintf("%s || %s.length > %d", answerIsWhole, answerText, shown))
		}
		if got := browser.Evaluate[string](p, answerText); got != x.model {
			x.t.Errorf("page %d shows other words than the model wrote: %s", n+1, difference(got, x.model))
		}
	}
}

// reload reloads a page, and waits until the new one shows words.
func (x *answering) reload(p *browser.Tab) {
	x.t.Helper()
	p.Run("window.old = true; location.reload()")
	p.Until("!window.old && document.querySelector('output') !== null && " + answerIsShown)
}

func difference(got, want string) string {
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	begin := max(0, at-40)
	return fmt.Sprintf("%d bytes, want %d; they differ at %d: %q, want %q", len(got), len(want), at,
		got[begin:min(len(got), at+40)], want[begin:min(len(want), at+40)])
}

func TestAnAnswerGoesOnAfterAReloadInASecondTabAndInOtherBrowsers(t *testing.T) {
	t.Parallel()
	x := startAnswering(t, 1)
	b := browser.Chromium(t)
	first := x.ask(b)
	address := browser.Evaluate[string](first, "location.href")
	length := browser.Evaluate[int](first, answerText+".length")
	first.Until(fmt.Sprintf("%s.length > %d + 200 && %s === 'Writing'", answerText, length, answerState)) // it grows
	first.Resize(600, 400)
	first.Do(browser.Prefer("light"))
	first.Until(answerText + ".length > 500")
	first.Picture("answer")
	x.reload(first)
	pages := append(elsewhere(t, address), first, b.Open(address))
	for _, p := range pages {
		p.Until(answerIsShown)
		if shown := browser.Evaluate[string](p, answerText); !strings.HasPrefix(x.model, shown) {
			t.Errorf("a page does not begin with the first word: %q", shown)
		}
	}
	x.wantsAll(pages...)
	for _, p := range pages {
		p.Until("document.querySelector('h1').textContent === 'How does an answer survive a reload?' && document.querySelector('footer button').hidden && document.querySelector('main').ariaBusy === 'false'")
	}
	x.reload(first)
	x.wantsAll(first, b.Open(address))
}

// elsewhere opens an address in the other browsers.
func elsewhere(t *testing.T, address string) (pages []*browser.Tab) {
	t.Helper()
	for _, engine := range browser.Engines[1:] {
		pages = append(pages, engine.Use(t).Open(address))
	}
	return pages
}

func TestStopStopsTheModelAndEndsTheTopic(t *testing.T) {
	t.Parallel()
	x := startAnswering(t, 30) // for longer than the test takes
	b := browser.Chromium(t)
	first := x.ask(b)
	second := b.Open(browser.Evaluate[string](first, "location.href"))
	second.Until(answerIsShown)
	second.Run("document.querySelector('footer button').click()")
	first.Until(answerState + " === 'Stopped'")
	second.Until(answerState + " === 'Stopped'")
	shown := browser.Evaluate[string](first, answerText)
	if shown == x.model || !strings.HasPrefix(x.model, shown) || browser.Evaluate[string](second, answerText) != shown {
		t.Errorf("the pages show %q, and not the same beginning of the answer", shown)
	}

	// The topic takes nothing more, and the page of an answer that was stopped stays as it is.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		x.push.URL+"/sse?topic=private/answers"+browser.Evaluate[string](first, "location.pathname"), strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer secret")
	request.Header.Set("Content-Type", "application/json")
	response, err := app.Client(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusConflict {
		t.Errorf("publishing to the topic of an answer that was stopped: %s", response.Status)
	}
	x.reload(first)
	first.Until(answerState + " === 'Stopped'")
	if again := browser.Evaluate[string](first, answerText); again != shown {
		t.Errorf("after a reload, the page shows %q, want %q", again, shown)
	}
}

func TestNoWordIsLostOrDoubledWhenThePushServerIsKilledTwice(t *testing.T) {
	t.Parallel()
	x := startAnswering(t, 3)
	b := browser.Chromium(t)
	b.Offline.Store(true)
	first := x.ask(b)
	address := browser.Evaluate[string](first, "location.href")
	pages := append(elsewhere(t, address), first, b.Open(address))
	for range 2 {
		shown := browser.Evaluate[int](first, answerText+".length")
		x.push.Stop(syscall.SIGKILL)
		first.Until("/^Connection lost/.test(" + answerState + ")")
		x.startPush()
		first.Until(fmt.Sprintf("%s.length > %d", answerText, shown))
	}
	pages = append(pages, b.Open(address))
	x.wantsAll(pages...)
}

func TestAPageSaysThatItsAnswerIsBrokenOffWhenTheAppWasKilled(t *testing.T) {
	t.Parallel()
	x := startAnswering(t, 30) // for longer than the test takes
	b := browser.Chromium(t)
	b.Offline.Store(true)
	p := x.ask(b)
	x.killApp()
	const brokenOff = answerState + ".startsWith('Broken off')"
	p.Until(brokenOff)
	shown := browser.Evaluate[string](p, answerText)
	x.startApp()
	x.reload(p)
	p.Until(brokenOff)
	if again := browser.Evaluate[string](p, answerText); again != shown || !strings.HasPrefix(x.model, shown) {
		t.Errorf("the page shows %q after a reload, and %q before", again, shown)
	}
}

func TestAnAnswerMayHaveAnyTextAndIsNeverMarkup(t *testing.T) {
	t.Parallel()
	x := startAnswering(t, 1)
	const question = `Ünïcödé & <b>markup</b> 'in' a "question"? $& $' 100 %`
	x.use(`for (const piece of ['🙂👩‍👧', ' e', '\u0301 שלום ', '', ' <img src=x onerror=alert(1)>', '\u2028\0\r\n', '</main><script>alert(1)</script>', question])
		for (const unit of piece.split('')) { // an emoji has two of them, which come one after the other
			yield unit;
			await sleep(5);
		}`,
		"🙂👩‍👧 e\u0301 שלום  <img src=x onerror=alert(1)>\u2028\x00\r\n</main><script>alert(1)</script>"+question)
	p := browser.Chromium(t).Open(x.url)
	p.Run("document.querySelector('input').value = " + inJavaScript(question) + "; " + askForAnAnswer)
	p.Until("location.pathname.length > 1 && document.querySelector('main') !== null && document.querySelector('output') !== null")
	x.wantsAll(p)
	p.Until("document.querySelector('h1').textContent === " + inJavaScript(question) + " && document.querySelectorAll('h1 *, main *').length === 0")
}

func TestAnAnswerFitsEveryScreenAndSchemeAndPassesAxe(t *testing.T) {
	t.Parallel()
	axe := browser.Axe(t)
	x := startAnswering(t, 1)
	x.use("yield question + ' ' + 'unbroken'.repeat(50); await sleep(1e6, undefined, { signal });", "")
	p := browser.Chromium(t).Open(x.url)
	p.Check("answer-empty", axe)
	p.Run(askForAnAnswer)
	p.Until(answerIsShown)
	p.Check("answer-writing", axe)
	p.Run("document.querySelector('footer button').click()")
	p.Until(answerState + " === 'Stopped'")
	p.Check("answer-stopped", axe)
}

func TestAPageSaysThatTheModelFailedOrStoppedOnItsOwnTerms(t *testing.T) {
	t.Parallel()
	x := startAnswering(t, 1)
	b := browser.Chromium(t)
	for body, want := range map[string]string{
		"yield 'one '; yield 'two'; throw new Error('no more words');": "The model failed: no more words",
		"throw new Error('not today');":                                "The model failed: not today",
		"":                                                             "Finished",
		"for (;;) { yield 'word '; await sleep(20); }":                        "Stopped", // it takes no notice of the signal
		"while (!signal.aborted) { yield 'word '; await sleep(20); }":         "Stopped", // it ends without an error
		"for (;;) { yield 'word '; await sleep(20, undefined, { signal }); }": "Stopped",
		"yield 'word '; await sleep(1e6, undefined, { signal });":             "Stopped",
	} {
		x.use(body, "")
		p := b.Open(x.url)
		p.Until("document.querySelector('form') !== null")
		p.Run(askForAnAnswer)
		if want == "Stopped" {
			p.Until("location.pathname.length > 1 && " + answerText + ".includes('word')")
			p.Run("document.querySelector('footer button').click()")
		}
		p.Until(fmt.Sprintf("location.pathname.length > 1 && %s === %s && document.querySelector('footer button').hidden", answerState, inJavaScript(want)))
		p.Close()
	}
}

func TestAtMost100AnswersAreWrittenAtATimeAndEachPageGetsItsOwn(t *testing.T) {
	t.Parallel()
	x := startAnswering(t, 1)
	x.use("for (;;) try { read('go'); break; } catch { await sleep(20); }\n"+
		"for (const word of `The answer to ${question} is ${question}. `.repeat(10).match(/\\S+\\s*/g)) yield word;", "")
	const asked, accepted = 200, 100
	app := app.Client(t)
	app.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ask := func(question int) (*http.Response, error) {
		return app.PostForm(x.url, url.Values{"question": {fmt.Sprint(question)}})
	}
	var pages, refused sync.Map
	var asking sync.WaitGroup
	for question := range asked {
		asking.Go(func() {
			response, err := ask(question)
			if err != nil {
				t.Error(err)
				return
			}
			response.Body.Close()
			switch response.StatusCode {
			case http.StatusSeeOther:
				pages.Store(question, response.Header.Get("Location"))
			case http.StatusServiceUnavailable:
				refused.Store(question, true)
			default:
				t.Errorf("question %d: %s", question, response.Status)
			}
		})
	}
	asking.Wait()
	count := func(m *sync.Map) (n int) {
		m.Range(func(any, any) bool { n++; return true })
		return n
	}
	if count(&pages) != accepted || count(&refused) != asked-accepted {
		t.Fatalf("%d questions were accepted and %d refused, want %d and %d", count(&pages), count(&refused), accepted, asked-accepted)
	}

	attributes := regexp.MustCompile(`data-stream="([^"]+)" data-token="([^"]+)"`)
	read := func(question, page any, complete bool) error {
		response, err := app.Get(x.url + page.(string))
		if err != nil {
			return err
		}
		html, err := io.ReadAll(response.Body)
		response.Body.Close()
		found := attributes.FindSubmatch(html)
		if err != nil || found == nil {
			return fmt.Errorf("the page is %q, %w", html, err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, string(found[1])+"&lastEventId=earliest", nil)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+string(found[2]))
		stream, err := app.Do(request)
		if err != nil {
			return err
		}
		defer stream.Body.Close()
		all, err := io.ReadAll(stream.Body) // until the topic ends
		if err != nil {
			return err
		}
		if n := strings.Count(string(all), "\ntime:"); complete && n != 1 {
			return fmt.Errorf("a page that opens when the answer is complete gets %d messages, want the whole alone: %q", n, all)
		}
		var got strings.Builder
		for line := range strings.Lines(string(all)) {
			if line == "event:whole\n" {
				got.Reset() // it takes the place of what came before
			}
			var event struct{ Question, Text, End string }
			if data, ok := strings.CutPrefix(line, "data:"); ok {
				if err := json.Unmarshal([]byte(data), &event); err != nil {
					return err
				}
				got.WriteString(event.Question + event.Text + event.End)
			}
		}
		want := fmt.Sprint(question, strings.Repeat(fmt.Sprintf("The answer to %v is %[1]v. ", question), 10), "Finished")
		if got.String() != want {
			return fmt.Errorf("the stream of question %v has %q, want %q", question, got.String(), want)
		}
		return nil
	}
	var reading sync.WaitGroup
	pages.Range(func(question, page any) bool {
		reading.Go(func() {
			if err := read(question, page, false); err != nil {
				t.Error(err)
			} else if err := read(question, page, true); err != nil {
				t.Error(err)
			}
		})
		return true
	})
	if err := os.WriteFile(filepath.Join(x.root, "docs", "examples", "answer", "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	reading.Wait()
	response, err := ask(0) // there is room again
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusSeeOther {
		t.Errorf("a later question: %s", response.Status)
	}
}

func TestTheAnswerAppRefusesWhatIsNoQuestionOrPageAndGoesOn(t *testing.T) {
	t.Parallel()
	x := startAnswering(t, 1)
	x.use("yield question.length.toString();", "")
	app := app.Client(t)
	app.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/lib/../answer.mjs", "", 200}, // the page
		{"GET", "/answer.mjs", "", 200},
		{"GET", "/style.css", "", 200},
		{"HEAD", "/00000000-0000-0000-0000-000000000000", "", 204}, // nothing writes it
		{"DELETE", "/00000000-0000-0000-0000-000000000000", "", 204},
		{"POST", "/", "", 303},
		{"POST", "/", "%ff=%", 303},
		{"POST", "/", "question=" + strings.Repeat("x", 200_000), 303}, // is cut
		{"POST", "/", "question=" + strings.Repeat("x", 3_000_000), 303},
	} {
		request, err := http.NewRequestWithContext(t.Context(), test.method, x.url+test.path, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := app.Do(request)
		if err != nil {
			t.Errorf("%s %s: %v", test.method, test.path, err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != test.status || strings.Contains(string(body), "createServer") {
			t.Errorf("%s %s: %s, want %d, and %v; %q", test.method, test.path, response.Status, test.status, err, body)
		}
	}
}
