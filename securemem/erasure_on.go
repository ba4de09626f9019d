//go:build goexperiment.runtimesecret

package securemem

import (
	"runtime"
	"runtime/secret"
)

// Do runs f so that its registers, its stack and, once the collector has seen
// them unreachable, its heap allocations are erased (runtime/secret). Keep
// allocations out of f: each one is put on a list that is searched linearly.
//
// In a build without GOEXPERIMENT=runtimesecret it only calls f.
func Do(f func()) { secret.Do(f) }

// ErasureOn reports whether [Do] erases anything in this build.
func ErasureOn() bool {
	return runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")
}
