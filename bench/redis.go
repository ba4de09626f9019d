package bench

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"cloakroom/bench/load"
	"cloakroom/internal/people"
)

// redisProtocol speaks RESP 2. Keys are the text form of the id, as a program
// that caches names would use them.
type redisProtocol struct{ crowd *people.People }

func (p *redisProtocol) frame(reply []byte) (int, error) { return load.RESP(reply) }

func (p *redisProtocol) resolve(dst []byte, who []uint32) []byte {
	command := "MGET"
	if len(who) == 1 {
		command = "GET"
	}
	dst = appendArray(dst, 1+len(who))
	dst = appendBulk(dst, []byte(command))
	for _, one := range who {
		dst = p.appendKey(dst, one)
	}
	return dst
}

func (p *redisProtocol) checkResolve(who []uint32, reply []byte) error {
	want := []byte(nil)
	if len(who) > 1 {
		want = appendArray(want, len(who))
	}
	for _, one := range who {
		want = p.appendName(want, int(one))
	}
	if !bytes.Equal(reply, want) {
		return errors.New("a person has another name or none")
	}
	return nil
}

func (p *redisProtocol) store(dst []byte, from, n int) []byte { return p.deposit(dst, from, n) }

func (p *redisProtocol) deposit(dst []byte, from, n int) []byte {
	command := "MSET"
	if n == 1 {
		command = "SET"
	}
	dst = appendArray(dst, 1+2*n)
	dst = appendBulk(dst, []byte(command))
	for i := range n {
		dst = p.appendKey(dst, uint32(from+i))
		dst = p.appendName(dst, from+i)
	}
	return dst
}

func (p *redisProtocol) checkDeposit(_ int, reply []byte) error {
	if string(reply) != "+OK\r\n" {
		return fmt.Errorf("got %d bytes, want +OK", len(reply))
	}
	return nil
}

func (p *redisProtocol) appendKey(dst []byte, one uint32) []byte {
	dst = append(dst, "$36\r\n"...)
	dst = p.crowd.ID(uint64(one)).AppendText(dst)
	return append(dst, "\r\n"...)
}

func (p *redisProtocol) appendName(dst []byte, i int) []byte {
	var name [people.MaxNameBytes]byte
	return appendBulk(dst, p.crowd.AppendName(name[:0], uint64(i)))
}

func appendArray(dst []byte, n int) []byte {
	dst = strconv.AppendInt(append(dst, '*'), int64(n), 10)
	return append(dst, "\r\n"...)
}

func appendBulk(dst, b []byte) []byte {
	dst = strconv.AppendInt(append(dst, '$'), int64(len(b)), 10)
	dst = append(dst, "\r\n"...)
	dst = append(dst, b...)
	return append(dst, "\r\n"...)
}
