package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"cloakroom/cluster/directory"
	"cloakroom/node"
)

// TestPrincipalScripts runs scripts against a node whose first principals are
// those of a cluster that several people founded: access-1, access-2, operator,
// custodian and auditor, each with its token in a file of that name. $SOCKET is
// its operator listener, $CLOAKROOM_ADDR its front door.
func TestPrincipalScripts(t *testing.T) {
	runScripts(t, "testdata/principals", func(env *testscript.Env, _ string) error {
		cfg := node.DevConfig([]byte("script-token"))
		cfg.KeepDumpable, cfg.Approvals = true, true
		for name, actions := range map[string][]directory.Action{"access-1": {directory.Access}, "access-2": {directory.Access},
			"operator": {directory.Operate}, "custodian": {directory.Custody}, "auditor": {directory.Audit, directory.SchemaWrite}} {
			token := []byte("token-of-" + name)
			if err := os.WriteFile(filepath.Join(env.WorkDir, name), token, 0o600); err != nil {
				return err
			}
			cfg.Principals = append(cfg.Principals, node.Principal{Name: name, Token: token,
				Grant: directory.Grant{Actions: actions, Form: directory.FormMasked}})
		}
		n, err := node.New(t.Context(), cfg)
		if err != nil {
			return err
		}
		env.Defer(func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
		door, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		if err := n.Serve(door); err != nil {
			return err
		}
		socket, err := net.Listen("unix", filepath.Join(env.WorkDir, "socket"))
		if err != nil {
			return err
		}
		if err := n.ServeOperators(socket); err != nil {
			return err
		}
		env.Setenv("CLOAKROOM_ADDR", door.Addr().String())
		env.Setenv("CLOAKROOM_OPERATOR_ADDR", "unix:"+socket.Addr().String())
		env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
		return nil
	})
}
