//go:build !linux

package load

import "context"

func newDriver(ctx context.Context, cfg Config) (driver, error) {
	return newConnDriver(ctx, cfg)
}
