package server

import (
	"os"
	"os/signal"
	"syscall"
)

// StopSignals returns the signals that stop a server. SIGHUP, which a closed terminal sends, is not among them if it
// was ignored when the process started: that is how nohup makes a program outlive its terminal, and to ask for the
// signal would undo it.
func StopSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}
