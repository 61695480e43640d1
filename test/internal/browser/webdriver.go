package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testport"
	"gin-sse/internal/testwait"
)

// session is a browser that is driven as https://www.w3.org/TR/webdriver/ says. A session has one current
// window, so that its methods take turns.
type session struct {
	mu   sync.Mutex
	call func(command verb, params any) (json.RawMessage, error)
	stop func()
	home string // the window that stays open
}

// verb is one command: its path over HTTP, and its name for Firefox, which takes them over a socket.
type verb struct{ method, path, name string }

var (
	firstWindow  = verb{http.MethodGet, "/window", "WebDriver:GetWindowHandle"}
	newWindow    = verb{http.MethodPost, "/window/new", "WebDriver:NewWindow"}
	switchWindow = verb{http.MethodPost, "/window", "WebDriver:SwitchToWindow"}
	closeWindow  = verb{http.MethodDelete, "/window", "WebDriver:CloseWindow"}
	navigate     = verb{http.MethodPost, "/url", "WebDriver:Navigate"}
	executeAsync = verb{http.MethodPost, "/execute/async", "WebDriver:ExecuteAsyncScript"}
	setRect      = verb{http.MethodPost, "/window/rect", "WebDriver:SetWindowRect"}
)

func newSession(call func(verb, any) (json.RawMessage, error), stop func()) (driver, error) {
	s := &session{call: call, stop: stop}
	answer, err := call(firstWindow, map[string]any{})
	if err == nil {
		err = json.Unmarshal(answer, &s.home)
	}
	if err != nil {
		stop()
		return nil, err
	}
	return s, nil
}

func (s *session) open(url string) (window, error) {
	var opened struct{ Handle string }
	answer, err := (&sessionWindow{s, s.home}).do(newWindow, map[string]any{"type": "tab"})
	if err == nil {
		err = json.Unmarshal(answer, &opened)
	}
	if err != nil {
		return nil, fmt.Errorf("open a tab: %w", err)
	}
	w := &sessionWindow{s, opened.Handle}
	return w, w.navigate(url)
}

func (s *session) end() { s.stop() }

type sessionWindow struct {
	session *session
	handle  string
}

// do gives a command to this window.
func (w *sessionWindow) do(c verb, params any) (json.RawMessage, error) {
	w.session.mu.Lock()
	defer w.session.mu.Unlock()
	if _, err := w.session.call(switchWindow, map[string]any{"handle": w.handle, "focus": false}); err != nil {
		return nil, err
	}
	return w.session.call(c, params)
}

func (w *sessionWindow) navigate(url string) error {
	_, err := w.do(navigate, map[string]any{"url": url})
	return err
}

func (w *sessionWindow) close() error {
	_, err := w.do(closeWindow, map[string]any{})
	return err
}

func (w *sessionWindow) resize(width, height int) error {
	if _, err := w.do(setRect, map[string]any{"width": width, "height": height}); err != nil {
		return err
	}
	// The answer may come before the page has its size, and windows do not become as small as one likes: wait until it keeps one.
	before, same := "", 0
	for deadline := time.Now().Add(testwait.Limit); same < 10; time.Sleep(50 * time.Millisecond) {
		size, err := w.evaluate("[innerWidth, innerHeight]")
		if err != nil {
			return err
		}
		if same++; string(size) != before {
			before, same = string(size), 0
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the window does not keep a size; the last one is %s", size)
		}
	}
	return nil
}

func (w *sessionWindow) evaluate(expression string) (json.RawMessage, error) {
	answer, err := w.do(executeAsync, map[string]any{
		"script": "const done = arguments[arguments.length - 1]; Promise.resolve(" + expression + ").then((value) => done(JSON.stringify({ value })), (error) => done(JSON.stringify({ error: String(error) })));",
		"args":   []any{},
	})
	if err != nil {
		return nil, err
	}
	var text string
	if err := json.Unmarshal(answer, &text); err != nil {
		return nil, fmt.Errorf("evaluate %s: %w in %s", expression, err, answer)
	}
	var result struct {
		Value json.RawMessage
		Error string
	}
	if err := json.Unmarshal([]byte(text), &result); err != nil {
		return nil, err
	}
	if result.Error != "" {
		return nil, errors.New(result.Error)
	}
	return result.Value, nil
}

var capabilities = map[string]any{"pageLoadStrategy": "none", "timeouts": map[string]any{"script": testwait.Limit.Milliseconds()}}

// launch runs a program until it is ended, or this process is: the shell between the two sees its input end.
func launch(environment []string, file *os.File, program ...string) (end func(), err error) {
	run := exec.Command("/bin/sh", append([]string{"-c", `"$@" & read -r _; kill $!; wait`, "sh"}, program...)...)
	run.Env = append(os.Environ(), environment...)
	if file != nil {
		run.ExtraFiles = []*os.File{file}
	}
	input, err := run.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := run.Start(); err != nil {
		return nil, err
	}
	return func() {
		input.Close()
		_ = run.Wait() // its status is that of a program that was killed
	}, nil
}

// startFirefox drives Firefox over the socket that geckodriver would use: each message is its length, a
// colon, and JSON.
func startFirefox(testing.TB) (driver, error) {
	program, err := exec.LookPath("firefox-esr")
	if err != nil {
		if program, err = exec.LookPath("firefox"); err != nil {
			return nil, notInstalled{"Firefox", "firefox-esr"}
		}
	}
	profile, err := os.MkdirTemp("", "gin-sse-firefox")
	if err != nil {
		return nil, err
	}
	preferences := `user_pref("marionette.port", 0);
user_pref("network.dns.localDomains", "gin-sse.test");
user_pref("dom.min_background_timeout_value", 4);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
`
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(preferences), 0o600); err != nil {
		return nil, err
	}
	end, err := launch([]string{"HOME=" + profile}, nil, program, "--headless", "--marionette", "--no-remote", "--profile", profile)
	if err != nil {
		return nil, err
	}
	stop := func() {
		end()
		_ = os.RemoveAll(profile)
	}

	var port []byte
	for deadline := time.Now().Add(testwait.Limit); len(bytes.TrimSpace(port)) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			stop()
			return nil, errors.New("start Firefox: it does not listen")
		}
		port, _ = os.ReadFile(filepath.Join(profile, "MarionetteActivePort"))
	}
	socket, err := net.Dial("tcp", "127.0.0.1:"+string(bytes.TrimSpace(port)))
	if err != nil {
		stop()
		return nil, err
	}
	in := bufio.NewReader(socket)
	read := func() (message json.RawMessage, err error) {
		length, err := in.ReadString(':')
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
		if err != nil {
			return nil, err
		}
		message = make([]byte, n)
		_, err = io.ReadFull(in, message)
		return message, err
	}
	number := 0
	ask := func(name string, params any) (json.RawMessage, error) {
		number++
		message, err := json.Marshal([]any{0, number, name, params})
		if err != nil {
			return nil, err
		}
		if err := socket.SetDeadline(time.Now().Add(testwait.Limit)); err != nil {
			return nil, err
		}
		if _, err := fmt.Fprintf(socket, "%d:%s", len(message), message); err != nil {
			return nil, err
		}
		answer, err := read()
		if err != nil {
			return nil, err
		}
		var parts [4]json.RawMessage
		if err := json.Unmarshal(answer, &parts); err != nil {
			return nil, err
		}
		if string(parts[2]) != "null" {
			return nil, fmt.Errorf("%s: %s", name, parts[2])
		}
		var value struct{ Value json.RawMessage }
		if json.Unmarshal(parts[3], &value) == nil && value.Value != nil {
			return value.Value, nil
		}
		return parts[3], nil
	}
	if _, err := read(); err != nil { // it says hello
		stop()
		return nil, err
	}
	// Firefox takes the capabilities as they are: with the names around them, it gave a script 30 s. Without a strategy, it
	// waits until a page has loaded.
	if _, err := ask("WebDriver:NewSession", map[string]any{"timeouts": capabilities["timeouts"]}); err != nil {
		stop()
		return nil, err
	}
	return newSession(
		func(c verb, params any) (json.RawMessage, error) { return ask(c.name, params) },
		func() { socket.Close(); stop() },
	)
}

// startWebKit drives WebKitGTK's small browser, which needs a screen.
func startWebKit(t testing.TB) (driver, error) {
	program, err := exec.LookPath("WebKitWebDriver")
	if err != nil {
		return nil, notInstalled{"WebKit", "webkit2gtk-driver"}
	}
	browsers, _ := filepath.Glob("/usr/lib/*/webkit2gtk-4.*/MiniBrowser")
	if len(browsers) == 0 {
		return nil, notInstalled{"WebKit's MiniBrowser", "webkit2gtk-driver"}
	}
	xvfb, err := exec.LookPath("Xvfb")
	if err != nil {
		return nil, notInstalled{"Xvfb", "xvfb"}
	}
	home, err := os.MkdirTemp("", "gin-sse-webkit")
	if err != nil {
		return nil, err
	}
	display, displayNumber, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer display.Close()
	endScreen, err := launch(nil, displayNumber, xvfb, "-displayfd", "3", "-screen", "0", "1400x1000x24", "-nolisten", "tcp")
	if err != nil {
		return nil, err
	}
	displayNumber.Close()
	number, err := bufio.NewReader(display).ReadString('\n')
	if err != nil {
		endScreen()
		return nil, fmt.Errorf("start Xvfb: %w", err)
	}
	port := testport.Free(t)
	environment := []string{"DISPLAY=:" + strings.TrimSpace(number), "HOME=" + home, "XDG_RUNTIME_DIR=" + home,
		"WEBKIT_DISABLE_COMPOSITING_MODE=1", "GIO_USE_VFS=local", "NO_AT_BRIDGE=1", "DBUS_SESSION_BUS_ADDRESS=disabled:"}
	endDriver, err := launch(environment, nil, program, "--port="+strconv.Itoa(port))
	if err != nil {
		endScreen()
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{}, Timeout: testwait.Limit}
	base := fmt.Sprintf("http://127.0.0.1:%d/session", port)
	ask := func(method, path string, params any) (json.RawMessage, error) {
		var body io.Reader
		if method == http.MethodPost {
			encoded, err := json.Marshal(params)
			if err != nil {
				return nil, err
			}
			body = bytes.NewReader(encoded)
		}
		request, err := http.NewRequestWithContext(context.Background(), method, base+path, body)
		if err != nil {
			return nil, err
		}
		response, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		var answer struct{ Value json.RawMessage }
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s %s: %s", method, path, answer.Value)
		}
		return answer.Value, nil
	}
	path := ""
	stop := func() {
		if path != "" {
			_, _ = ask(http.MethodDelete, path, nil)
		}
		client.CloseIdleConnections()
		endDriver()
		endScreen()
		_ = os.RemoveAll(home)
	}
	match := map[string]any{
		"webkitgtk:browserOptions": map[string]any{"binary": browsers[len(browsers)-1], "args": []string{"--automation"}},
	}
	for key, value := range capabilities {
		match[key] = value
	}
	var started struct{ SessionID string }
	var answer json.RawMessage
	for deadline := time.Now().Add(testwait.Limit); ; time.Sleep(20 * time.Millisecond) {
		answer, err = ask(http.MethodPost, "", map[string]any{"capabilities": map[string]any{"alwaysMatch": match}})
		if !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(deadline) {
			break
		}
	}
	if err == nil {
		err = json.Unmarshal(answer, &started)
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("start WebKit: %w", err)
	}
	path = "/" + started.SessionID
	return newSession(
		func(c verb, params any) (json.RawMessage, error) { return ask(c.method, path+c.path, params) },
		stop,
	)
}
