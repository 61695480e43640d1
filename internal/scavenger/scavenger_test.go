package scavenger

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

func forced() uint64 {
	collections := []metrics.Sample{{Name: "/gc/cycles/forced:gc-cycles"}}
	metrics.Read(collections)
	return collections[0].Value.Uint64()
}

func TestMemoryIsGivenBackOnceWhenItIsQuiet(t *testing.T) {
	var s Scavenger
	litter := func() {
		for range 64 {
			runtime.KeepAlive(make([]byte, 1<<20))
		}
	}
	before := forced()
	for range 3 {
		litter()
		s.Tick()
	}
	if n := forced() - before; n != 0 {
		t.Errorf("collected %d times while it was busy", n)
	}
	for range 3 {
		s.Tick()
	}
	if n := forced() - before; n != 1 {
		t.Errorf("collected %d times when it was quiet, want once", n)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if kept := memory.HeapIdle - memory.HeapReleased; kept > 2<<20 {
		t.Errorf("%d bytes are free and not given back", kept)
	}
}
