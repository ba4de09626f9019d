package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"

	"cloakroom/securemem"
)

// Holder is somebody who is sent a secret: an age recipient, of either kind.
type Holder struct{ to age.Recipient }

// ParseHolder reads "age1…". The error does not repeat the text.
func ParseHolder(text string) (Holder, error) {
	text = strings.TrimSpace(text)
	var to age.Recipient
	var err error
	switch {
	case strings.HasPrefix(text, "AGE-SECRET-KEY-"):
		return Holder{}, errors.New("it is an age identity, which is secret: give its public half, age1…, and make a new identity")
	case strings.HasPrefix(text, "age1pq1"):
		to, err = age.ParseHybridRecipient(text)
	case strings.HasPrefix(text, "age1") && strings.Count(text, "1") > 1 && len(text) != x25519Letters:
		return Holder{}, errors.New("it is a recipient of an age plugin, which this version can't encrypt to: give an ordinary age1… recipient")
	default:
		to, err = age.ParseX25519Recipient(text)
	}
	if err != nil {
		return Holder{}, errors.New("it is not an age recipient: want age1…, as age-keygen prints it")
	}
	return Holder{to}, nil
}

// x25519Letters is the length of an ordinary recipient's text.
const x25519Letters = 62

// Deliver returns an age file of secret, which only h can open.
func Deliver(h Holder, secret *securemem.Secret) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(1<<12 + secret.Len()) // no growing inside
	var err error
	secret.Use(func(b []byte) {
		w, fault := age.Encrypt(&out, h.to)
		if err = fault; err != nil {
			return
		}
		if _, err = w.Write(b); err == nil {
			err = w.Close()
		}
	})
	collect()
	if err != nil {
		return nil, fmt.Errorf("encrypt to holder: %w", err)
	}
	return out.Bytes(), nil
}
