package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloakroom"
	"cloakroom/securemem"
)

const (
	testToken = "t-0123456789"
	testID    = "0b5d8a3e-8c3f-4a1e-9d7a-0f6f3c1b2a4d"
	// marker is a value that must show up in no answer it was not asked for in
	// and in no buffer.
	marker = "Ada-Lovelace-marker-PII"
)

var testVersion = cloakroom.Version{0xfe, 1, 2, 3, 4, 5, 6, 7}

// fakeService answers everything and remembers the last call.
type fakeService struct {
	refused []string // calls, guarded by mu
	mu      sync.Mutex
	calls   int
	req     Request
	query   Query
	deposit Deposit
	source  Source
	items   []Deposit
	body    []byte

	err      error
	receipt  []byte
	values   map[string]string // field → value, of every subject
	missing  bool
	lost     bool // unavailable
	entered  chan struct{}
	blocked  chan struct{}
	quoted   []byte
	left     time.Duration // that the last call had
	fast     bool          // remember nothing
	panicNow bool
	created  bool

	name   string                                        // of the caller
	cursor string                                        // of the last stream
	says   chan func(context.Context, *EventReply) error // what streams say
	others chan func(context.Context, *EventReply) error // and those of the caller "another"
	closed atomic.Int64                                  // streams
}

type fakeCaller string

func (c fakeCaller) Name() string { return string(c) }

var theCaller Caller = fakeCaller("tester")

func (f *fakeService) Authenticate(token []byte) (Caller, error) {
	if string(token) != testToken {
		return nil, cloakroom.ErrUnauthenticated
	}
	if f.name != "" {
		return fakeCaller(f.name), nil
	}
	return theCaller, nil
}

// called copies what the request holds: the original dies with the call.
// Refused counts refusals of the front door.
func (f *fakeService) Refused(_ context.Context, req *Request, call string, why error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = append(f.refused, call)
	return nil
}

func (f *fakeService) called(req *Request) error {
	req.Recorded = true
	f.mu.Lock()
	f.calls++
	f.req = *req
	f.req.Body = bytes.Clone(req.Body)
	f.req.Index = bytes.Clone(req.Index)
	f.req.Purpose = bytes.Clone(req.Purpose)
	f.req.IdempotencyKey = bytes.Clone(req.IdempotencyKey)
	f.mu.Unlock()
	if f.panicNow {
		panic("with " + marker)
	}
	if f.entered != nil {
		f.entered <- struct{}{}
		<-f.blocked
	}
	return f.err
}

func left(ctx context.Context) time.Duration {
	at, _ := ctx.Deadline()
	return time.Until(at)
}

func cloneDeposit(d *Deposit) Deposit {
	c := *d
	c.Domain = bytes.Clone(d.Domain)
	c.Fields, c.TTLs = nil, nil
	for _, t := range d.TTLs {
		c.TTLs = append(c.TTLs, FieldTTL{bytes.Clone(t.Name), t.TTL})
	}
	for _, f := range d.Fields {
		c.Fields = append(c.Fields, FieldValue{Name: bytes.Clone(f.Name), Kind: f.Kind, Value: bytes.Clone(f.Value), Raw: bytes.Clone(f.Raw)})
	}
	return c
}

func (f *fakeService) Events(_ context.Context, req *Request, cursor []byte) (EventStream, error) {
	f.mu.Lock()
	f.cursor = string(cursor)
	f.mu.Unlock()
	says := f.says
	if req.Caller.Name() == "another" {
		says = f.others
	}
	return &fakeStream{service: f, says: says}, f.called(req)
}

// fakeStream says what the test sends, or a hello and then the end.
type fakeStream struct {
	service *fakeService
	says    chan func(context.Context, *EventReply) error
	begun   bool
}

func (s *fakeStream) Next(ctx context.Context, reply *EventReply) error {
	if !s.begun {
		s.begun = true
		reply.Hello(3 * time.Second)
		return nil
	}
	if s.says == nil {
		return io.EOF
	}
	select {
	case say := <-s.says:
		return say(ctx, reply)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *fakeStream) Close() { s.service.closed.Add(1) }

func (f *fakeService) Deposit(ctx context.Context, req *Request, d *Deposit) (Deposited, error) {
	f.left = left(ctx)
	f.deposit = cloneDeposit(d)
	req.ReplyIndex = append(req.ReplyIndex[:0], "opaque-index"...)
	return Deposited{ID: mustID(testID), Version: testVersion, Created: true}, f.called(req)
}

func (f *fakeService) DepositBatch(_ context.Context, req *Request, items []Deposit, results []Deposited) error {
	f.items = nil
	for i := range items {
		f.items = append(f.items, cloneDeposit(&items[i]))
		results[i] = Deposited{ID: items[i].ID, Version: testVersion, Created: true}
		if i%2 == 1 {
			results[i].Err = cloakroom.ErrMemoryFull
		}
	}
	return f.called(req)
}

func (f *fakeService) Put(_ context.Context, req *Request, id cloakroom.Pseudonym, d *Deposit) (Deposited, error) {
	f.deposit = cloneDeposit(d)
	return Deposited{ID: id, Version: testVersion, Created: f.created}, f.called(req)
}

func (f *fakeService) Upsert(_ context.Context, req *Request, source *Source, d *Deposit) (Deposited, error) {
	f.deposit = cloneDeposit(d)
	f.source = Source{Issuer: bytes.Clone(source.Issuer), Subject: bytes.Clone(source.Subject)}
	return Deposited{ID: mustID(testID), Version: testVersion, Created: f.created}, f.called(req)
}

func (f *fakeService) Patch(_ context.Context, req *Request, id cloakroom.Pseudonym, d *Deposit) (Deposited, error) {
	f.deposit = cloneDeposit(d)
	return Deposited{ID: id, Version: testVersion}, f.called(req)
}

func (f *fakeService) Get(_ context.Context, req *Request, id cloakroom.Pseudonym, q *Query, reply *SubjectReply) error {
	if !f.fast {
		f.query = cloneQuery(q)
		if err := f.called(req); err != nil {
			return err
		}
	}
	reply.Begin(id, testVersion)
	for name, value := range f.values {
		v := append(reply.Scratch(len(value)), value...)
		if err := reply.Value(AppendName(f.quoted[:0], []byte(name)), v, false); err != nil {
			return err
		}
	}
	reply.End()
	return nil
}

func cloneQuery(q *Query) Query {
	c := Query{IDs: append([]cloakroom.Pseudonym(nil), q.IDs...), Asked: q.Asked, Form: bytes.Clone(q.Form)}
	for _, name := range q.Fields {
		c.Fields = append(c.Fields, bytes.Clone(name))
	}
	return c
}

func (f *fakeService) Resolve(ctx context.Context, req *Request, q *Query, reply *ResolveReply) error {
	f.left = left(ctx)
	if f.fast {
		for _, id := range q.IDs {
			reply.Begin(id)
			v := append(reply.Scratch(64), "Ada Byron King Lovelace 25"[:25]...)
			if err := reply.Value(f.quoted, v, false); err != nil {
				return err
			}
			reply.End()
		}
		return nil
	}
	f.query = cloneQuery(q)
	if err := f.called(req); err != nil {
		return err
	}
	for _, id := range q.IDs {
		switch {
		case f.missing:
			reply.Missing(id)
		case f.lost:
			reply.Unavailable(id)
		default:
			reply.Begin(id)
			for _, name := range q.Fields {
				value, ok := f.values[string(name)]
				if !ok {
					continue
				}
				v := append(reply.Scratch(len(value)), value...)
				if err := reply.Value(AppendName(nil, name), v, false); err != nil {
					return err
				}
			}
			reply.End()
		}
	}
	return nil
}

func (f *fakeService) Erase(_ context.Context, req *Request, _ cloakroom.Pseudonym) ([]byte, error) {
	return f.receipt, f.called(req)
}

func (f *fakeService) Schema(_ context.Context, req *Request) ([]byte, error) {
	return []byte(`{"epoch":1,"fields":[]}`), f.called(req)
}

func (f *fakeService) SetSchema(_ context.Context, req *Request, body []byte) ([]byte, error) {
	f.body = bytes.Clone(body)
	return []byte(`{"epoch":2,"fields":[]}`), f.called(req)
}

func (f *fakeService) PublicKeys() []byte { return []byte(`{"keys":[]}`) }

func (f *fakeService) Status(_ context.Context, req *Request) ([]byte, error) {
	group := `"leading":true,"generation":1,"term":2,"applied":3,"log_bytes":4,"majority":true,"tolerates":0,"role":"leader","members":[],"lag":0`
	return []byte(`{"version":"v1","go":"go1","cluster":"00","ready":true,"recovery":"none","subjects":0,"erased":0,` +
		`"schema_epoch":1,"keyring_version":1,"memory":{},"arena":{},"pool":{},"audit":{},` +
		`"node":"n1","nodes":[],"clock_skew":false,"view_ms":27000,"directory":{` + group + `},"shards":[{"shard":0,` + group + `}],"ledger":0}`), f.called(req)
}

func (f *fakeService) Ready(verbose bool) ([]byte, error) {
	if verbose {
		return []byte(`{"ready":true,"shards":[]}`), f.err
	}
	return nil, f.err
}

func (f *fakeService) Metrics(_ context.Context, req *Request) (http.Handler, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		io.WriteString(w, "cloakroom_up 1\n")
	}), f.called(req)
}

func mustID(text string) cloakroom.Pseudonym {
	id, err := cloakroom.ParsePseudonym([]byte(text))
	if err != nil {
		panic(err)
	}
	return id
}

func randomIDs(n int) []cloakroom.Pseudonym {
	ids := make([]cloakroom.Pseudonym, n)
	for i := range ids {
		rand.Read(ids[i][:])
		ids[i].SetRandomForm()
	}
	return ids
}

var openMemory = sync.OnceValues(func() (*securemem.Memory, error) {
	return securemem.Open(securemem.Config{Lock: securemem.LockOff, Logger: slog.New(slog.DiscardHandler)})
})

func testPool(t testing.TB) *securemem.Pool {
	t.Helper()
	memory, err := openMemory()
	if err != nil {
		t.Fatal(err)
	}
	return memory.Pool()
}

// front is a server under test on a real socket.
type front struct {
	t       testing.TB
	server  *Server
	service *fakeService
	addr    string
	log     *bytes.Buffer
	client  *tls.Config

	mu    sync.Mutex
	conns []*conn // all that were accepted
	stop  func()
}

// start opens a front door; change may alter its config.
func start(t testing.TB, service *fakeService, change ...func(*Config)) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{t: t, service: service, addr: l.Addr().String(), log: new(bytes.Buffer)}
	cfg := Config{Service: service, Pool: testPool(t), Listener: l,
		Logger: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, c := range change {
		c(&cfg)
	}
	f.server, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	connContext := f.server.http.ConnContext
	f.server.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		f.mu.Lock()
		f.conns = append(f.conns, baseConn(c))
		f.mu.Unlock()
		return connContext(ctx, c)
	}
	done := make(chan error, 1)
	go func() { done <- f.server.Serve() }()
	f.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := f.server.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		// Another front of the same test may just be answering its last request.
		until(t, "all guarded memory to be given back", func() bool { return cfg.Pool.Stats().InUse == 0 })
	})
	t.Cleanup(f.stop)
	return f
}

// until waits for a condition, and fails the test after 10 s.
func until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !condition(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s for: %s", what)
		}
	}
}

// dial opens a connection that fails the test's reads after 10 s.
func (f *front) dial() net.Conn {
	f.t.Helper()
	c, err := net.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if f.client != nil {
		return tls.Client(c, f.client)
	}
	return c
}

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   string
	close  bool
}

func readAnswer(t testing.TB, r *bufio.Reader, method string) answer {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read response: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read response body: %v", err)
	}
	return answer{resp.StatusCode, resp.Header, string(body), resp.Close}
}

// raw sends text on a connection of its own and reads one answer.
func (f *front) raw(text string) answer {
	f.t.Helper()
	c := f.dial()
	if _, err := io.WriteString(c, text); err != nil {
		f.t.Fatal(err)
	}
	method, _, _ := strings.Cut(text, " ")
	return readAnswer(f.t, bufio.NewReader(c), method)
}

// request is the text of a request with token and content type; headers are
// lines that are added, "Name: value".
func request(method, path, body string, headers ...string) string {
	var b strings.Builder
	b.WriteString(method + " " + path + " HTTP/1.1\r\nHost: test\r\n")
	has := func(name string) bool {
		for _, h := range headers {
			if strings.HasPrefix(h, name+":") {
				return true
			}
		}
		return false
	}
	if !has("Authorization") {
		b.WriteString("Authorization: Bearer " + testToken + "\r\n")
	}
	if body != "" && !has("Content-Type") {
		b.WriteString("Content-Type: application/json\r\n")
	}
	if body != "" && !has("Transfer-Encoding") && !has("Content-Length") {
		b.WriteString("Content-Length: " + itoa(len(body)) + "\r\n")
	}
	for _, h := range headers {
		if !strings.HasSuffix(h, ":") {
			b.WriteString(h + "\r\n")
		}
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

func itoa(n int) string { return string(appendInt(nil, n)) }

// do sends one request.
func (f *front) do(method, path, body string, headers ...string) answer {
	f.t.Helper()
	return f.raw(request(method, path, body, headers...))
}

// testTLS makes a certificate for 127.0.0.1 and the client's trust in it.
func testTLS(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return server, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

// startTLS opens a front door with TLS.
func startTLS(t testing.TB, service *fakeService, change ...func(*Config)) *front {
	server, client := testTLS(t)
	f := start(t, service, append(change, func(c *Config) { c.TLS = server })...)
	f.client = client
	return f
}

// resolveBody is a resolve of the ids.
func resolveBody(ids []cloakroom.Pseudonym, fields string) string {
	var b strings.Builder
	b.WriteString(`{"ids":[`)
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + id.String() + `"`)
	}
	b.WriteString(`],"fields":[` + fields + `]}`)
	return b.String()
}
