// Package testmodel runs tests that use something at random and compare it with a simple model.
package testmodel

import (
	"flag"
	"math/rand/v2"
	"testing"
)

var (
	seed   = flag.Uint64("model.seed", 0, "run the model test with this seed alone")
	rounds = flag.Int("model.rounds", 0, "run the model test so many times, with seeds that are new each time")
)

// Run calls run with so many seeds, until one fails. They are the same each time, so that a change passes or fails for
// what it does. The flag model.rounds looks for what these do not find.
func Run(t *testing.T, usual int, run func(t *testing.T, seed uint64)) {
	t.Helper()
	next, times := uint64(1), usual
	if *rounds > 0 {
		next, times = rand.Uint64(), *rounds
	}
	if *seed != 0 {
		next, times = *seed, 1
	}
	defer func() {
		if t.Failed() {
			t.Logf("to run what failed again: -model.seed %d", next)
		}
	}()
	for range times {
		if run(t, next); t.Failed() {
			return
		}
		next++
	}
}
