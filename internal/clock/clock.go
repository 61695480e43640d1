// Package clock is the one clock that all clients share.
package clock

import (
	"context"
	"time"
)

const (
	// The timer follows the monotonic clock, which stands still while the machine sleeps and does not
	// see the wall clock being set. Looking at the wall clock this often finds out about both.
	look = time.Second

	// A wall clock set back by less is waited for, so that no tick is repeated; after a larger step
	// waiting would look like a fault.
	patience = 10 * time.Second
)

// Run calls tick at every full interval of the wall clock (with time.Second: on the second) with
// that moment in the local time zone, and returns when ctx ends; tick is not called after that. An
// interval of 0 or less never ticks.
//
// After a sleep of the machine or a step of the clock the next tick comes within a second, with the
// time that it is then: missed ticks are not made up for. Only when the clock is set back by at most
// 10 s do the ticks pause until it is where it was, so that none is repeated.
func Run(ctx context.Context, interval time.Duration, tick func(time.Time)) {
	run(ctx, interval, time.Now, tick)
}

func run(ctx context.Context, interval time.Duration, now func() time.Time, tick func(time.Time)) {
	if interval <= 0 {
		<-ctx.Done()
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	next := now().Truncate(interval).Add(interval)
	for {
		wall := now().Round(0) // without the monotonic reading
		if next.Sub(wall) > interval+patience {
			next = wall.Truncate(interval)
		}
		timer.Reset(min(next.Sub(wall), look))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if wall = now().Round(0); !wall.Before(next) && ctx.Err() == nil {
			next = wall.Truncate(interval)
			tick(next)
			next = next.Add(interval)
		}
	}
}
