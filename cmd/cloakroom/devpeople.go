package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"cloakroom"
	"cloakroom/client"
	"cloakroom/internal/people"
)

// devPeople deposits made-up people.
func (a *app) devPeople(ctx context.Context, f *devFlags, url string, token []byte) error {
	if f.people == 0 {
		return nil
	}
	secret, err := client.NewToken(token)
	if err != nil {
		return err
	}
	cfg := client.Config{Addr: url, Token: secret, Timeout: a.timeout}
	if f.tls {
		cfg.CACert = f.caOut
	}
	server, err := client.New(cfg)
	if err != nil {
		return err
	}
	defer server.Close()
	crowd, err := people.New(people.Config{Seed: 1})
	if err != nil {
		return err
	}
	return depositPeople(ctx, server, crowd, f.people)
}

const (
	peopleBatch   = 500
	peopleSenders = 4
	peopleWait    = time.Minute // for one batch, elections included
)

// depositPeople deposits the first n of a crowd, several batches at a time.
func depositPeople(ctx context.Context, server *client.Client, crowd *people.People, n int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var senders sync.WaitGroup
	for range peopleSenders {
		senders.Go(func() { // ends when all are deposited, or one failed
			for ctx.Err() == nil {
				from := int(next.Add(peopleBatch)) - peopleBatch
				if from >= n {
					return
				}
				if err := depositSome(ctx, server, crowd, from, min(n, from+peopleBatch)); err != nil {
					cancel(fmt.Errorf("deposit people: %w", err))
				}
			}
		})
	}
	senders.Wait()
	return context.Cause(ctx)
}

// depositSome deposits one batch under ids of its own, so that it can be done
// again when a leader was lost in the middle of it.
func depositSome(ctx context.Context, server *client.Client, crowd *people.People, from, to int) error {
	batch := make([]client.Subject, to-from)
	for i := range batch {
		p := crowd.Person(uint64(from + i))
		batch[i] = client.Subject{ID: crowd.ID(uint64(from + i)), Fields: client.Fields{
			"display_name": client.Text(p.DisplayName), "email": client.Text(p.Email), "phone": client.Text(p.Phone),
			"birth_date": client.Text(p.BirthDate), "address": client.JSON([]byte(p.Address)),
		}}
	}
	for until := time.Now().Add(peopleWait); ; {
		results, err := server.DepositBatch(ctx, batch)
		for i := range results {
			if err == nil {
				err = results[i].Err
			}
		}
		if !errors.Is(err, cloakroom.ErrOutcomeUnknown) && !errors.Is(err, cloakroom.ErrUnavailable) || time.Now().After(until) {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}
