package server

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// UntilSignal returns a context that ends at the first signal to stop. A second one ends the process at once.
func UntilSignal() (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = signal.NotifyContext(context.Background(), stopSignals()...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// stopSignals returns the signals that stop a server. SIGHUP, which a closed terminal sends, is not among them if it was
// ignored when the process started: that is how nohup makes a program outlive its terminal, and to ask for the signal
// would undo it.
func stopSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}
