package bench

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cloakroom"
)

// The test binary plays the programs that the benchmark starts, so that the
// benchmark can be tested without the store.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case "fake-cloakroom":
			err = fakeCloakroom(os.Args[2:])
		case "fixed-server":
			err = ServeFixed(os.Args[2], os.Stdout)
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// fakeStore answers as the API does, from a map.
type fakeStore struct {
	token string
	mu    sync.RWMutex
	names map[string]string
	// lie makes every answer about one name wrong.
	lie bool
}

func fakeCloakroom(args []string) error {
	lie := args[0] == "lie" // comes before what the benchmark says
	if lie {
		args = args[1:]
	}
	if args[0] == "import" {
		return fakeImport(args[1:])
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	listen := flags.String("listen", "", "")
	token := flags.String("token", "", "")
	flags.Int("people", 0, "")
	nodes := flags.Int("nodes", 1, "")
	flags.String("ca-out", "", "")
	ceiling := flags.Int("bench-ceiling", 0, "")
	useTLS := flags.Bool("tls", false, "")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	store := &fakeStore{token: *token, names: map[string]string{}, lie: lie}
	server := &http.Server{Addr: *listen, Handler: store.routes()}
	if *ceiling > 0 {
		server.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			io.Copy(io.Discard, req.Body)
			w.Header().Set("Content-Length", strconv.Itoa(*ceiling))
			w.Write(make([]byte, *ceiling))
		})
	}
	for i := 1; i < *nodes; i++ {
		other, err := net.Listen("tcp", nextAddr(*listen, i))
		if err != nil {
			return err
		}
		go server.Serve(other) // ends with the process
	}
	if *useTLS {
		certificates := httptest.NewUnstartedServer(nil)
		certificates.StartTLS()
		server.TLSConfig = &tls.Config{Certificates: certificates.TLS.Certificates}
		listener, err := tls.Listen("tcp", *listen, server.TLSConfig)
		if err != nil {
			return err
		}
		fmt.Println("ready")
		return server.Serve(listener)
	}
	return serveThenSay(server, *listen, os.Stdout)
}

func (s *fakeStore) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/resolve", s.resolve)
	mux.HandleFunc("POST /v1/subjects", s.deposit)
	mux.HandleFunc("POST /v1/subjects/batch", s.depositBatch)
	mux.HandleFunc("GET /v1/subjects/{id}", s.get)
	mux.HandleFunc("PUT /v1/subjects/by-source", s.deposit)
	mux.HandleFunc("DELETE /v1/subjects/{id}", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"signature": "none"})
	})
	start := time.Now()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		n := time.Since(start).Milliseconds() // grows, as a counter does
		fmt.Fprintf(w, "%s_bucket{route=\"resolve\",le=\"0.001\"} %d\n%[1]s_bucket{route=\"resolve\",le=\"+Inf\"} %[2]d\n", requestSeconds, n)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "Bearer "+s.token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, req)
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	w.Write(text)
}

func (s *fakeStore) resolve(w http.ResponseWriter, req *http.Request) {
	var ask struct{ IDs, Fields []string }
	if err := json.NewDecoder(req.Body).Decode(&ask); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	found, missing := map[string]map[string]string{}, []string{}
	for _, id := range ask.IDs {
		name, is := s.names[id]
		if !is {
			missing = append(missing, id)
			continue
		}
		if s.lie {
			name = "somebody else"
		}
		found[id] = map[string]string{"display_name": name}
	}
	answer(w, http.StatusOK, map[string]any{"subjects": found, "missing": missing})
}

func (s *fakeStore) get(w http.ResponseWriter, req *http.Request) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	name, is := s.names[req.PathValue("id")]
	if !is {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	answer(w, http.StatusOK, map[string]any{"id": req.PathValue("id"), "version": "v", "fields": map[string]string{"display_name": name}})
}

type fakeSubject struct {
	ID     string
	Fields map[string]string
}

func (s *fakeStore) put(one fakeSubject) map[string]string {
	if one.ID == "" {
		var id cloakroom.Pseudonym
		rand.Read(id[:])
		id.SetRandomForm()
		one.ID = id.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[one.ID] = one.Fields["display_name"]
	return map[string]string{"id": one.ID, "version": "0123456789abcdef"}
}

func (s *fakeStore) deposit(w http.ResponseWriter, req *http.Request) {
	var one fakeSubject
	if err := json.NewDecoder(req.Body).Decode(&one); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	answer(w, http.StatusCreated, s.put(one))
}

func (s *fakeStore) depositBatch(w http.ResponseWriter, req *http.Request) {
	var all struct{ Subjects []fakeSubject }
	if err := json.NewDecoder(req.Body).Decode(&all); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var results []map[string]string
	for _, one := range all.Subjects {
		results = append(results, s.put(one))
	}
	answer(w, http.StatusOK, map[string]any{"results": results})
}

// fakeImport reads the file and writes an id for every row.
func fakeImport(args []string) error {
	file, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	if !strings.HasPrefix(os.Getenv("CLOAKROOM_ADDR"), "http://127.0.0.1:") || args[1] != "--key" || args[3] != "--out" {
		return fmt.Errorf("import called as %q", args)
	}
	out, err := os.Create(args[4])
	if err != nil {
		return err
	}
	defer out.Close()
	rows := csv.NewReader(file)
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(out, row[0]+",id")
	}
}
