package cloakroom

// Refusal is an error with a detail for the caller: what is wrong here and now,
// in words of our own, never a value, a key or a token.
type Refusal struct {
	Err  error
	Text string
}

// Because is err with a detail for the caller.
func Because(err error, detail string) error { return &Refusal{err, detail} }

// Error is the sentinel and the detail.
func (r *Refusal) Error() string { return r.Err.Error() + ": " + r.Text }

// Unwrap returns the sentinel.
func (r *Refusal) Unwrap() error { return r.Err }

// Detail returns the detail alone.
func (r *Refusal) Detail() string { return r.Text }
