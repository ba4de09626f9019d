//go:build !unix

package api

import "errors"

const canPull = false

func pull(uintptr, []byte) (n int, again bool, err error) { return 0, false, errors.ErrUnsupported }
