package output_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gin-sse/internal/output"
)

// patience is how long a test waits for what should happen at once.
const patience = 3 * time.Minute

// asProgram is the environment variable that makes this test a program with a log.
const asProgram = "OUTPUT_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if kind := os.Getenv(asProgram); kind != "" {
		program(kind)
		return
	}
	goleak.VerifyTestMain(m)
}

// program logs as the server does: more than a pipe takes if it is flooding, and one more line when its
// standard input is closed.
func program(kind string) {
	if kind != "careless" {
		signal.Ignore(syscall.SIGPIPE)
	}
	stdout, stderr := output.New(os.Stdout, "text"), output.New(os.Stderr, "text")
	for i := 0; kind == "flooding" && i < 10_000; i++ {
		fmt.Fprintln(stdout, strings.Repeat("x", 100))
		fmt.Fprintln(stderr, strings.Repeat("y", 100))
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Fprintln(stdout, "last")
	fmt.Fprintln(stderr, "last")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, _ = stdout.Close(ctx), stderr.Close(ctx)
	if kind == "flooding" && ctx.Err() == nil {
		os.Exit(1) // something read the pipe
	}
}

// startProgram starts this test as a program whose two outputs are one pipe.
func startProgram(t *testing.T, kind string) (input io.Closer, reader *os.File, wait func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), asProgram+"="+kind)
	reader, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	cmd.Stdout, cmd.Stderr = pipe, pipe
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(cmd.Start(), pipe.Close()); err != nil {
		t.Fatal(err)
	}
	return stdin, reader, cmd.Wait
}

func TestAProgramEndsAlthoughNobodyReadsItsOutput(t *testing.T) {
	t.Parallel()
	input, _, wait := startProgram(t, "flooding")
	if err := errors.Join(input.Close(), wait()); err != nil {
		t.Error(err)
	}
}

func TestAProgramOutlivesTheReaderOfItsOutput(t *testing.T) {
	t.Parallel()
	for kind, survives := range map[string]bool{"careful": true, "careless": false} {
		input, reader, wait := startProgram(t, kind)
		if err := errors.Join(reader.Close(), input.Close()); err != nil {
			t.Fatal(err)
		}
		if err := wait(); (err == nil) != survives {
			t.Errorf("the %s program ended with %v", kind, err)
		}
	}
}

func TestOneThousandWritersLoseNothingThatFits(t *testing.T) {
	t.Parallel()
	reader, pipe := io.Pipe()
	w := output.New(pipe, "text")
	var writers sync.WaitGroup
	for writer := range 1000 {
		writers.Go(func() {
			for line := range 5 {
				fmt.Fprintf(w, "writer %d line %d\n", writer, line)
			}
		})
	}
	closed := make(chan error, 1)
	go func() {
		writers.Wait() // the reader may begin when all have written
		closed <- errors.Join(w.Close(t.Context()), pipe.Close())
	}()
	writers.Wait()
	next := map[int]int{}
	for lines := bufio.NewScanner(reader); lines.Scan(); {
		var writer, line int
		if _, err := fmt.Sscanf(lines.Text(), "writer %d line %d", &writer, &line); err != nil || line != next[writer] {
			t.Fatalf("%q came, want line %d of that writer", lines.Text(), next[writer])
		}
		next[writer]++
	}
	for writer := range 1000 {
		if next[writer] != 5 {
			t.Errorf("%d lines of writer %d came, want 5", next[writer], writer)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// tally reads a log of lines that are all the same and returns how many came and how many were dropped.
func tally(t *testing.T, log io.Reader, line string) (came, dropped, notices int) {
	t.Helper()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var n int
		if lines.Text() == line {
			came++
		} else if _, err := fmt.Sscanf(lines.Text()[strings.LastIndex(lines.Text(), " ")+1:], "lines=%d", &n); err == nil && strings.Contains(lines.Text(), `level=WARN msg="log lines were dropped:`) {
			dropped, notices = dropped+n, notices+1
		} else {
			t.Errorf("the log has %q, want whole lines", lines.Text())
		}
	}
	return came, dropped, notices
}

func TestABlockedReaderStopsNobodyAndWhatDoesNotFitIsCounted(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("x", 99)
	reader, pipe := io.Pipe()
	w := output.New(pipe, "text")
	var writers sync.WaitGroup
	for range 1000 {
		writers.Go(func() {
			for range 20 {
				fmt.Fprintln(w, line)
			}
		})
	}
	writers.Wait()
	closed := make(chan error, 1)
	go func() { closed <- errors.Join(w.Close(t.Context()), pipe.Close()) }()
	came, dropped, notices := tally(t, reader, line)
	if came+dropped != 20_000 || notices == 0 {
		t.Errorf("%d lines came and %d were reported as dropped, want 20,000 together", came, dropped)
	}
	if kept := came * 100; kept < 200<<10 || kept > 512<<10 {
		t.Errorf("%d bytes were kept", kept)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// slowly takes one write a second, and none of more than a pipe would take at once.
type slowly struct {
	t  *testing.T
	to io.Writer
}

func (s slowly) Write(p []byte) (int, error) {
	time.Sleep(time.Second) // of the bubble
	if len(p) > 4096 || !bytes.HasSuffix(p, []byte("\n")) {
		s.t.Errorf("%d bytes are written at once, or the last line of them is not whole", len(p))
	}
	return s.to.Write(p)
}

func TestASlowReaderGetsWholeLinesAndTheCountOfTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		line := strings.Repeat("x", 999)
		w := output.New(slowly{t, &log}, "text")
		begin := time.Now()
		for range 100 {
			for range 50 {
				fmt.Fprintln(w, line)
			}
			time.Sleep(time.Second)
		}
		if passed := time.Since(begin); passed != 100*time.Second {
			t.Errorf("the writers waited for %v", passed-100*time.Second)
		}
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		came, dropped, notices := tally(t, &log, line)
		if came+dropped != 5000 || came < 400 || notices > 10 {
			t.Errorf("%d lines came and %d were reported as dropped on %d lines, want 5,000 together on few", came, dropped, notices)
		}
	})
}

// failing takes nothing, or half of what it is given, until it is repaired.
type failing struct {
	half     bool
	tries    atomic.Int64
	repaired atomic.Bool
	log      bytes.Buffer
}

func (f *failing) Write(p []byte) (int, error) {
	f.tries.Add(1)
	if f.repaired.Load() {
		return f.log.Write(p)
	}
	if f.half {
		n, _ := f.log.Write(p[:len(p)/2])
		return n, syscall.ENOSPC
	}
	return 0, syscall.EPIPE
}

func TestAnErrorIsTriedAgainAndThePauseCostsNothing(t *testing.T) {
	t.Parallel()
	for _, half := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			to := &failing{half: half}
			w := output.New(to, "text")
			fmt.Fprintln(w, "the first line")
			for range 60 {
				time.Sleep(time.Second)
				fmt.Fprintln(w, "a line")
			}
			if tries := to.tries.Load(); tries > 601 {
				t.Errorf("%d tries in a minute", tries)
			}
			to.repaired.Store(true)
			time.Sleep(time.Second)
			if err := w.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if want := "the first line\n" + strings.Repeat("a line\n", 60); to.log.String() != want {
				t.Errorf("the log is %q", to.log.String())
			}
		})
	}
}

func TestCloseGivesUpOnAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := output.New(new(failing), "text")
		fmt.Fprintln(w, "a line")
		begin := time.Now()
		if err := w.Close(t.Context()); err != nil || time.Since(begin) > time.Second {
			t.Errorf("it took %v: %v", time.Since(begin), err)
		}
	})
}

func TestCloseWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, pipe := io.Pipe()
		w := output.New(pipe, "text")
		fmt.Fprintln(w, "a line")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("it took %v: %v", time.Since(begin), err)
		}
		fmt.Fprintln(w, "too late")
		reader.Close() // lets the goroutine end, as the bubble demands
	})
}

func TestALineLongerThanAPipeTakesAtOnceArrivesWhole(t *testing.T) {
	t.Parallel()
	for name, log := range map[string]string{
		"long alone":        strings.Repeat("x", 10_000) + "\n",
		"long then short":   strings.Repeat("x", 10_000) + "\nshort\n",
		"short then long":   "short\n" + strings.Repeat("x", 10_000) + "\n",
		"no end of line":    strings.Repeat("x", 10_000),
		"as much as it can": strings.Repeat("x", 4095) + "\n",
		"nothing":           "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			w := output.New(&got, "text")
			fmt.Fprint(w, log)
			if err := w.Close(t.Context()); err != nil || got.String() != log {
				t.Errorf("%d bytes came, want %d: %v", got.Len(), len(log), err)
			}
		})
	}
}

func TestALineThatNeverFitsIsDroppedAndCounted(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	w := output.New(&got, "text")
	fmt.Fprintln(w, strings.Repeat("x", 1<<20))
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, dropped, _ := tally(t, &got, ""); dropped != 1 {
		t.Errorf("the log is %.200q", got.String())
	}
}

func BenchmarkWrite(b *testing.B) {
	w := output.New(io.Discard, "text")
	defer w.Close(context.Background())
	line := []byte(strings.Repeat("x", 99) + "\n")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = w.Write(line)
		}
	})
}

func TestInJSONTheCountOfDroppedLinesIsAnObjectToo(t *testing.T) {
	t.Parallel()
	reader, pipe := io.Pipe()
	w := output.New(pipe, "json")
	log := slog.New(output.Handler(w, "json"))
	const written = 20_000
	for n := range written {
		log.Info("a line", "number", n, "filler", strings.Repeat("x", 100))
	}
	closed := make(chan error, 1)
	go func() { closed <- errors.Join(w.Close(t.Context()), pipe.Close()) }()
	came, dropped := 0, 0
	for lines := bufio.NewScanner(reader); lines.Scan(); {
		var line struct {
			Msg   string
			Lines int
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		if line.Msg == "a line" {
			came++
		}
		dropped += line.Lines
	}
	if err := <-closed; err != nil || came+dropped != written || dropped == 0 {
		t.Errorf("%d lines came and %d were reported as dropped, want %d together; error %v", came, dropped, written, err)
	}
}
