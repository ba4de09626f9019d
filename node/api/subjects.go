package api

import (
	"net/http"

	"cloakroom"
	"cloakroom/securemem"
)

// deposit serves POST /v1/subjects.
func (x *exchange) deposit() error {
	if x.req.HasIfMatch {
		return malformed("header If-Match is not for a new subject")
	}
	if err := x.decodeDeposit(); err != nil {
		return err
	}
	done, err := x.server.service.Deposit(x.ctx, &x.req, &x.subject)
	if err != nil {
		return err
	}
	return x.sendDeposited(http.StatusCreated, &done)
}

// decodeDeposit reads the body into x.subject. Like every decoding of values it
// runs in [securemem.Do], which wipes the registers that copied them.
func (x *exchange) decodeDeposit() (err error) {
	securemem.Do(func() { err = x.decoder.deposit(x.req.Body, &x.subject) })
	return err
}

// put serves PUT /v1/subjects/{id}.
func (x *exchange) put() error {
	id, err := cloakroom.ParsePseudonym(bytesOf(x.id))
	if err != nil {
		return err
	}
	if err := x.decodeDeposit(); err != nil {
		return err
	}
	done, err := x.server.service.Put(x.ctx, &x.req, id, &x.subject)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if done.Created {
		status = http.StatusCreated
	}
	return x.sendDeposited(status, &done)
}

// patch serves PATCH /v1/subjects/{id}.
func (x *exchange) patch() error {
	id, err := cloakroom.ParsePseudonym(bytesOf(x.id))
	if err != nil {
		return err
	}
	securemem.Do(func() { err = x.decoder.patch(x.req.Body, &x.subject) })
	if err != nil {
		return err
	}
	done, err := x.server.service.Patch(x.ctx, &x.req, id, &x.subject)
	if err != nil {
		return err
	}
	return x.sendDeposited(http.StatusOK, &done)
}

// erase serves DELETE /v1/subjects/{id}.
func (x *exchange) erase() error {
	id, err := cloakroom.ParsePseudonym(bytesOf(x.id))
	if err != nil {
		return err
	}
	receipt, err := x.server.service.Erase(x.ctx, &x.req, id)
	if err != nil {
		return err
	}
	x.setIndex()
	return x.sendJSON(receipt)
}

// depositBatch serves POST /v1/subjects/batch.
func (x *exchange) depositBatch() error {
	if x.req.HasIfMatch {
		return malformed("header If-Match is not for a batch")
	}
	var items []Deposit
	var err error
	securemem.Do(func() { items, err = x.decoder.batch(x.req.Body) })
	if err != nil {
		return err
	}
	results := make([]Deposited, len(items))
	if err := x.server.service.DepositBatch(x.ctx, &x.req, items, results); err != nil {
		return err
	}
	x.setIndex()
	buf := append(x.begin(), `{"results":[`...)
	for i := range results {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendDeposited(buf, &results[i])
	}
	return x.sendPlain(http.StatusOK, typeJSON, append(buf, ']', '}'))
}

func (x *exchange) sendDeposited(status int, done *Deposited) error {
	if done.Err != nil {
		return done.Err
	}
	x.setTag(done.Version)
	x.setIndex()
	return x.sendPlain(status, typeJSON, appendDeposited(x.begin(), done))
}

// setIndex sets the Cloakroom-Index header to what the service said.
func (x *exchange) setIndex() {
	if len(x.req.ReplyIndex) > 0 {
		x.w.Header()["Cloakroom-Index"] = []string{string(x.req.ReplyIndex)}
	}
}

// appendDeposited appends {"id","version"}, or {"id","problem"}.
func appendDeposited(dst []byte, done *Deposited) []byte {
	dst = append(dst, `{"id":"`...)
	dst = done.ID.AppendText(dst)
	if done.Err != nil {
		dst = append(dst, `","problem":`...)
		dst = appendProblemHead(dst, problemOf(done.Err))
		return append(dst, '}', '}')
	}
	dst = append(dst, `","version":"`...)
	dst = appendVersion(dst, done.Version)
	return append(dst, '"', '}')
}
