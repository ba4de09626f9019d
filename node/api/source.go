package api

import (
	"net/http"
	"strconv"

	"cloakroom/securemem"
)

// upsert serves PUT /v1/subjects/by-source.
func (x *exchange) upsert() error {
	var source Source
	var err error
	securemem.Do(func() { err = x.decoder.upsert(x.req.Body, &source, &x.subject) })
	if err != nil {
		return err
	}
	done, err := x.server.service.Upsert(x.ctx, &x.req, &source, &x.subject)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if done.Created {
		status = http.StatusCreated
	}
	return x.sendDeposited(status, &done)
}

// upsert decodes {"issuer","subject","domain"?,"fields":{…},"ttl"?}.
func (d *decoder) upsert(body []byte, source *Source, out *Deposit) error {
	d.reset(body)
	d.fields, d.ttls = d.fields[:0], d.ttls[:0]
	*out = Deposit{}
	if err := d.subject(out, source, false); err != nil {
		return err
	}
	switch {
	case source.Issuer == nil:
		return malformed("issuer is required")
	case source.Subject == nil:
		return malformed("subject is required")
	}
	return d.end()
}

// sourceName decodes an issuer or its name for somebody: any text that is not
// empty. It is compared byte by byte and never shown again.
func (d *decoder) sourceName(what string, limit int) ([]byte, error) {
	text, err := d.str("a string as " + what)
	switch {
	case err != nil:
		return nil, err
	case len(text) == 0:
		return nil, d.fail(what + " is empty")
	case len(text) > limit:
		return nil, d.fail(what + " is over " + strconv.Itoa(limit) + " bytes")
	}
	return text, nil
}
