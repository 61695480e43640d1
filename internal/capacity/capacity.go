// Package capacity knows how many clients this process can hold: what its limits of open files and of memory allow.
package capacity

import (
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// ReservedFiles are the open files that are left for everything but streams: pages, publishers, health checks, the log.
const ReservedFiles = 200

// base is the memory of a server without clients and messages.
const base = 16 << 20

// KeepToMemoryLimit makes the garbage collector keep the process below the memory limit of its container, with a tenth to
// spare for the kernel's part. GOMEMLIMIT in the environment has precedence.
func KeepToMemoryLimit() {
	_, _ = memlimit.Set() // a limit that cannot be read, or none at all, leaves everything as it is
}

// Memory returns the memory limit of the process in bytes, or 0 if there is none.
func Memory() int64 {
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		return limit
	}
	return 0
}

// Fits reports whether messages of so many bytes leave room for clients in a memory limit, of which 0 stands for none.
func Fits(history, memory int64) bool { return memory == 0 || room(history, memory) >= memory/8 }

// room returns how many bytes of a memory limit are left for clients.
func room(history, memory int64) int64 {
	history = min(history, memory)
	return memory - base - history - history/4 // a quarter is what messages take beside their own bytes
}

// Clients returns how many clients fit into limits of open files and memory, of which 0 stands for none, if each takes so
// many bytes beside the messages. It returns 0 if there is no limit, and otherwise 1 at least.
func Clients(files uint64, memory, history, perClient int64) uint64 {
	most := uint64(math.MaxUint64)
	if files > 0 {
		most = max(files, ReservedFiles+1) - ReservedFiles
	}
	if memory > 0 {
		most = min(most, uint64(max(1, max(room(history, memory), memory/8)/perClient)))
	}
	if most == math.MaxUint64 {
		return 0
	}
	return most
}
