// go-orders is the order endpoint as a Go service would have it: net/http, database/sql with
// mattn/go-sqlite3, one prepared statement, encoding/json. bench/README.md says why each choice.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

// Order has its fields in the order of the JSON that every server here sends.
type Order struct {
	ID         int64  `json:"id"`
	Customer   int64  `json:"customer"`
	Item       string `json:"item"`
	Quantity   int64  `json:"quantity"`
	PriceCents int64  `json:"price_cents"`
	Status     string `json:"status"`
	CreatedAt  int64  `json:"created_at"`
}

type server struct {
	find *sql.Stmt
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"internal error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

func writeError(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, struct {
		Error string `json:"error"`
	}{text})
}

func (s *server) order(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 0 {
		writeError(w, http.StatusBadRequest, "bad request")
		return
	}
	// Without the request's context: with it, the driver starts a goroutine and a channel for
	// every query to be able to interrupt it, which a point query of microseconds does not repay.
	o := Order{ID: id}
	err = s.find.QueryRow(id).Scan(&o.Customer, &o.Item, &o.Quantity, &o.PriceCents,
		&o.Status, &o.CreatedAt)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		writeError(w, http.StatusNotFound, "not found")
	case err != nil:
		writeError(w, http.StatusInternalServerError, "internal error")
	default:
		writeJSON(w, http.StatusOK, &o)
	}
}

func openStore(path string, conns int) (*sql.DB, *sql.Stmt, error) {
	dsn := (&url.URL{Scheme: "file", Opaque: path,
		RawQuery: "mode=ro&_mutex=no&_busy_timeout=1000"}).String()
	db, err := sql.Open("sqlite3", dsn)
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	find, err := db.Prepare("SELECT customer,item,quantity,price_cents,status,created_at " +
		"FROM orders WHERE id=?")
	return db, find, err
}

func run() error {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	path := flag.String("db", "orders.db", "SQLite file with the orders")
	conns := flag.Int("db-conns", 2*runtime.GOMAXPROCS(0), "SQLite connections")
	flag.Parse()

	db, find, err := openStore(*path, *conns)
	if err != nil {
		return err
	}
	defer db.Close()
	s := &server{find: find}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", s.order)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, "not found")
	})
	srv := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    8192,
	}
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s\n", l.Addr())

	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	drained := make(chan error, 1)
	go func() {
		<-ctx.Done()
		limit, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		drained <- srv.Shutdown(limit)
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-drained
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("go-orders: ")
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
