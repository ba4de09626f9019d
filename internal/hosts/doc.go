// Package hosts lets tests run a cluster as its users do: real processes of the
// real program, each with its folder and its configuration file, on loopback or
// on hosts of their own in network namespaces, with connections that get cut,
// processes that are killed or paused, and disks that are full or stand still.
// A room of test helpers: nothing of the product imports it.
//
// Namespaces take root and the program ip; tests that want them are skipped
// with the reason where either is missing. Everything that is made is removed
// with the test: processes, namespaces, mounts.
package hosts
