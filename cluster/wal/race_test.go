//go:build race

package wal

const raceDetector = true // a tenth of the speed
