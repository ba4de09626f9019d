package node

import "runtime/debug"

// stamp is the version that a build was given:
// -ldflags "-X cloakroom/node.stamp=v1.2.3". Nothing else sets it.
var stamp string

// Version returns the version of the program: the one it was stamped with, the
// module's, or the commit it was built from, or "devel".
func Version() string {
	if stamp != "" {
		return stamp
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
