//go:build !goexperiment.runtimesecret

package securemem

// Do calls f. In a build with GOEXPERIMENT=runtimesecret it also erases what f
// leaves in registers, on the stack and on the heap.
func Do(f func()) { f() }

// ErasureOn reports whether [Do] erases anything in this build.
func ErasureOn() bool { return false }
