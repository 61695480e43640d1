//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// process is a program that may be killed and started again.
type process struct {
	name    string
	address string           // where a replica listens
	command func() *exec.Cmd // what to run
	died    func(how string) // is called if it ends by itself

	mu      sync.Mutex
	cmd     *exec.Cmd // nil while it does not run
	killing bool
	ended   chan struct{}
	used    time.Duration // CPU time of this cmd at the latest sample
	samples []sample
}

// sample is what a process took.
type sample struct {
	at       time.Time
	cpu      time.Duration // since the sample before
	resident int           // bytes of memory
}

// start runs the program. It ends when this process does, whatever the reason.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := p.command()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true, // Ctrl-C is for this process alone
		Pdeathsig: syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.killing, p.used, p.ended = cmd, false, 0, make(chan struct{})
	go p.wait(cmd, p.ended)
	return nil
}

// wait ends with the program, which kill waits for.
func (p *process) wait(cmd *exec.Cmd, ended chan struct{}) {
	defer close(ended)
	_ = cmd.Wait() // how it ended is in ProcessState
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = nil
	if !p.killing {
		p.died(cmd.ProcessState.String())
	}
}

// kill ends the program as a power cut would, and waits until it is gone.
func (p *process) kill() {
	p.mu.Lock()
	cmd, ended := p.cmd, p.ended
	p.killing = true
	if cmd != nil {
		_ = cmd.Process.Kill() // fails only if it has ended
	}
	p.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// measure takes a sample, if the program runs.
func (p *process) measure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	is, err := procfs.NewProc(p.cmd.Process.Pid)
	if err != nil {
		return nil // it has just ended
	}
	stat, err := is.Stat()
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("measure %s: %w", p.name, err)
	}
	used := time.Duration(stat.CPUTime() * float64(time.Second))
	p.samples = append(p.samples, sample{time.Now(), used - p.used, stat.ResidentMemory()})
	p.used = used
	return nil
}

// self is this process, which can only be measured.
func self(name string) *process {
	return &process{name: name, cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}
}

// kernelMemory returns what the kernel uses for sockets, among other things.
func kernelMemory() uint64 {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0
	}
	memory, err := fs.Meminfo()
	if err != nil || memory.SlabBytes == nil {
		return 0
	}
	return *memory.SlabBytes
}

// logLines passes on the first lines that a program writes, those that are wanted, with its name.
type logLines struct {
	log    func(format string, args ...any)
	name   string
	wanted func(line []byte) bool
	rest   []byte
	passed int
}

// maxLines is how many lines of one program are passed on.
const maxLines = 100

var _ io.Writer = (*logLines)(nil)

func (l *logLines) Write(text []byte) (int, error) {
	l.rest = append(l.rest, text...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(text), nil
		}
		if l.passed < maxLines && l.wanted(line) {
			l.log("%s: %s", l.name, line)
			l.passed++
		}
		l.rest = rest
	}
}
