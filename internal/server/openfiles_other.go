//go:build !unix

package server

// openFilesLimit knows no limit on this system.
func openFilesLimit() (limit uint64, ok bool) { return 0, false }
