package server

import "syscall"

// dieWithParent keeps a killed benchmark from leaving servers behind.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
