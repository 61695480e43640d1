// Package ginmode lets GIN_MODE be a setting like every other one. Gin reads that variable in its own init and panics
// over a value that it does not know, before main could say what is wrong and what is accepted. So this package looks
// at the variable first, and hides such a value from Gin.
//
// Go initialises packages in the order of their import paths, each as soon as all that it imports is initialised. This
// one therefore comes before Gin: gin-sse/… sorts before github.com/gin-gonic/…, and it must import nothing that is
// initialised later than Gin, which os is not.
package ginmode

import "os"

const variable = "GIN_MODE"

// given is the value that the process was started with. It is set while packages are initialised, and never again.
var given, isSet = take()

func take() (value string, isSet bool) {
	value, isSet = os.LookupEnv(variable)
	if !Valid(value) {
		_ = os.Unsetenv(variable) // fails only for names that no variable can have
	}
	return value, isSet
}

// Given returns the value of GIN_MODE that the process was started with, and whether it was set.
func Given() (value string, ok bool) { return given, isSet }

// Valid reports whether the value can be used. An empty one stands for the default.
func Valid(value string) bool { return value == "" || value == "debug" || value == "release" }
