package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"cloakroom"
)

// DepositBatch stores up to [cloakroom.MaxBatchSubjects] subjects in one
// request. If one does not fit the schema, nothing is written and the error is
// a [Problem] whose Faults name all faulty items; otherwise every item stands
// or fails by itself, in Deposited.Err.
func (c *Client) DepositBatch(ctx context.Context, subjects []Subject) ([]Deposited, error) {
	const verb = "deposit batch"
	if len(subjects) > cloakroom.MaxBatchSubjects {
		return nil, fmt.Errorf("%s: more than %d subjects: %w", verb, cloakroom.MaxBatchSubjects, cloakroom.ErrTooLarge)
	}
	wire := struct {
		Subjects []wireSubject `json:"subjects"`
	}{make([]wireSubject, len(subjects))}
	for i := range subjects {
		wire.Subjects[i] = subjects[i].wire()
	}
	body, err := encode(wire)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	key, err := c.newKey()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	results := make([]Deposited, len(subjects))
	err = c.DepositBatchJSON(ctx, key, body, len(subjects), func(i int, d Deposited) { results[i] = d })
	if err != nil {
		return nil, err
	}
	return results, nil
}

// DepositBatchJSON sends a batch whose body the caller has built, which is
// what a bulk load does, and hands the n results to each, in order. body must
// not change until it returns. Nothing is handed over if the error is not nil.
func (c *Client) DepositBatchJSON(ctx context.Context, idempotencyKey string, body []byte, n int, each func(i int, d Deposited)) error {
	const verb = "deposit batch"
	answer, err := c.do(ctx, &call{
		verb: verb, method: http.MethodPost, path: "/v1/subjects/batch", body: body, repeat: true,
		header: [][2]string{{"Idempotency-Key", idempotencyKey}},
	})
	if err != nil {
		return err
	}
	index := answer.header.Get("Cloakroom-Index")
	hand := func(i int, d Deposited) {
		if d.Err == nil {
			d.Index = index // of all shards that the batch went to
		}
		c.forget(d.ID)
		each(i, d)
	}
	if err := batchResults(answer.body, n, hand); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// batchResults reads {"results":[…]} with n results and hands them over, all
// of them or none.
func batchResults(body []byte, n int, each func(i int, d Deposited)) error {
	if plainResults(body, n, each) {
		return nil
	}
	var wire struct {
		Results []struct {
			ID      string   `json:"id"`
			Version string   `json:"version"`
			Problem *Problem `json:"problem"`
		} `json:"results"`
	}
	if json.Unmarshal(body, &wire) != nil || len(wire.Results) != n {
		return errReply
	}
	results := make([]Deposited, n)
	for i, r := range wire.Results {
		id, err := cloakroom.ParsePseudonym([]byte(r.ID))
		if err != nil && r.Problem == nil {
			return errReply
		}
		results[i] = Deposited{ID: id, Version: r.Version}
		if r.Problem != nil {
			results[i].Err = r.Problem
		}
	}
	for i, d := range results {
		each(i, d)
	}
	return nil
}
