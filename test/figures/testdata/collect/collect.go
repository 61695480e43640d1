// BenchmarkProtocols builds this file into the servers that it measures. On SIGUSR1 a server collects garbage, says how
// much memory is left, and writes the profiles heap.pb.gz and goroutines.txt into PROFILES, if that names a folder.
package main

import (
	"cmp"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"syscall"
)

func init() {
	folder := os.Getenv("PROFILES")
	if folder != "" {
		runtime.MemProfileRate = 1 << 10
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		for n := 1; ; n++ {
			<-asked
			runtime.GC() // a pool keeps its contents for one collection
			debug.FreeOSMemory()
			var left runtime.MemStats
			runtime.ReadMemStats(&left)
			if folder != "" {
				write(filepath.Join(folder, "heap.pb.gz"), "heap", 0)
				write(filepath.Join(folder, "goroutines.txt"), "goroutine", 1)
			}
			fmt.Printf("collected %d: heap %d stacks %d\n", n, left.HeapAlloc, left.StackInuse)
		}
	}()
}

func write(path, profile string, format int) {
	file, err := os.Create(path)
	if err != nil {
		log.Fatal(err)
	}
	if err := cmp.Or(pprof.Lookup(profile).WriteTo(file, format), file.Close()); err != nil {
		log.Fatal(err)
	}
}
