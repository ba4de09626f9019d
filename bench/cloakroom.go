package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"

	"cloakroom/bench/load"
	"cloakroom/internal/people"
)

// cloakroomProtocol speaks the HTTP API.
type cloakroomProtocol struct {
	crowd *people.People
	addr  string
	token string
	get   bool // one id is asked for with GET
	extra string
}

func (p *cloakroomProtocol) frame(reply []byte) (int, error) { return load.HTTP(reply) }

func (p *cloakroomProtocol) request(dst []byte, method, path string, body []byte) []byte {
	dst = fmt.Appendf(dst, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n%s", method, path, p.addr, p.token, p.extra)
	if body != nil {
		dst = fmt.Appendf(dst, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	return append(append(dst, "\r\n"...), body...)
}

func (p *cloakroomProtocol) resolve(dst []byte, who []uint32) []byte {
	if p.get {
		path := p.crowd.ID(uint64(who[0])).AppendText([]byte("/v1/subjects/"))
		return p.request(dst, "GET", string(path)+"?fields=display_name", nil)
	}
	body := []byte(`{"ids":[`)
	for i, one := range who {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, '"')
		body = p.crowd.ID(uint64(one)).AppendText(body)
		body = append(body, '"')
	}
	body = append(body, `],"fields":["display_name"]}`...)
	return p.request(dst, "POST", "/v1/resolve", body)
}

// checkResolve looks for each id followed by its name, in the order asked for,
// which is quick; an answer that is written otherwise is parsed.
func (p *cloakroomProtocol) checkResolve(who []uint32, reply []byte) error {
	body := load.Body(reply)
	if p.get {
		return p.checkGet(who[0], body)
	}
	rest, want := body, []byte(nil)
	for _, one := range who {
		want = append(want[:0], '"')
		want = p.crowd.ID(uint64(one)).AppendText(want)
		want = append(want, `":{"display_name":"`...)
		want = p.crowd.AppendName(want, uint64(one))
		want = append(want, `"}`...)
		at := bytes.Index(rest, want)
		if at < 0 {
			return p.parseResolve(who, body)
		}
		rest = rest[at+len(want):]
	}
	return nil
}

func (p *cloakroomProtocol) parseResolve(who []uint32, body []byte) error {
	var answer struct {
		Subjects             map[string]map[string]string
		Missing, Unavailable []string
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return errors.New("the answer is no JSON")
	}
	if len(answer.Missing)+len(answer.Unavailable) > 0 {
		return fmt.Errorf("%d ids missing, %d unavailable", len(answer.Missing), len(answer.Unavailable))
	}
	for _, one := range who {
		name, found := answer.Subjects[p.crowd.ID(uint64(one)).String()]["display_name"]
		if !found || name != string(p.crowd.AppendName(nil, uint64(one))) {
			return fmt.Errorf("person %d has another name or none", one)
		}
	}
	return nil
}

func (p *cloakroomProtocol) checkGet(one uint32, body []byte) error {
	var answer struct{ Fields map[string]string }
	if err := json.Unmarshal(body, &answer); err != nil {
		return errors.New("the answer is no JSON")
	}
	if answer.Fields["display_name"] != string(p.crowd.AppendName(nil, uint64(one))) {
		return fmt.Errorf("person %d has another name or none", one)
	}
	return nil
}

func (p *cloakroomProtocol) store(dst []byte, from, n int) []byte {
	return p.request(dst, "POST", "/v1/subjects/batch", p.subjects(from, n, true))
}

// deposit leaves the ids to the server, so that every time it is sent it makes
// new subjects.
func (p *cloakroomProtocol) deposit(dst []byte, from, n int) []byte {
	if n == 1 {
		return p.request(dst, "POST", "/v1/subjects", p.subject(nil, from, false))
	}
	return p.request(dst, "POST", "/v1/subjects/batch", p.subjects(from, n, false))
}

// bySource deposits person i as the sign-in of an issuer knows them.
func (p *cloakroomProtocol) bySource(i int) []byte {
	body := fmt.Appendf(nil, `{"issuer":"https://login.example.org","subject":"person-%d",`, i)
	return p.request(nil, "PUT", "/v1/subjects/by-source", append(body, p.subject(nil, i, false)[1:]...))
}

// erase erases person i, who was stored under their own id.
func (p *cloakroomProtocol) erase(i int) []byte {
	path := p.crowd.ID(uint64(i)).AppendText([]byte("/v1/subjects/"))
	return p.request(nil, "DELETE", string(path), nil)
}

// checkReceipt wants what an erasure is answered with.
func checkReceipt(reply []byte) error {
	if !bytes.Contains(load.Body(reply), []byte(`"signature"`)) {
		return errors.New("an erasure without a receipt")
	}
	return nil
}

func (p *cloakroomProtocol) subjects(from, n int, withID bool) []byte {
	body := []byte(`{"subjects":[`)
	for i := range n {
		if i > 0 {
			body = append(body, ',')
		}
		body = p.subject(body, from+i, withID)
	}
	return append(body, "]}"...)
}

func (p *cloakroomProtocol) subject(body []byte, i int, withID bool) []byte {
	body = append(body, '{')
	if withID {
		body = append(body, `"id":"`...)
		body = p.crowd.ID(uint64(i)).AppendText(body)
		body = append(body, `",`...)
	}
	body = append(body, `"fields":{"display_name":"`...)
	body = p.crowd.AppendName(body, uint64(i))
	return append(body, `"}}`...)
}

// checkDeposit wants n versions, or any number of them when n is 0.
func (p *cloakroomProtocol) checkDeposit(n int, reply []byte) error {
	body := load.Body(reply)
	if bytes.Contains(body, []byte(`"problem"`)) {
		_, problem, _ := bytes.Cut(body, []byte(`"/problems/`))
		kind, _, _ := bytes.Cut(problem, []byte{'"'})
		return fmt.Errorf("a subject was refused: %s", kind)
	}
	if got := bytes.Count(body, []byte(`"version"`)); got == 0 || n > 0 && got != n {
		return fmt.Errorf("%d subjects came back of %d", got, n)
	}
	return nil
}

func port(addr string) string {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		return strconv.Itoa(0)
	}
	return p
}
