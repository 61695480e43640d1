//go:build !linux && !darwin

package server

// setOptions does nothing: these systems lack the options that are set on others.
func setOptions(int) error { return nil }
