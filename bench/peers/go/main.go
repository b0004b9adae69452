// What a good engineer writes in an afternoon: net/http, a map of denied operators and franz-go with its
// defaults (acks of all replicas, idempotent), lz4 and the same linger as the others. It answers after the
// broker's acknowledgement.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type callback struct {
	Command  string `json:"CallbackCommand"`
	Operator string `json:"Operator_Account"`
	Type     string `json:"Type"`
	Name     string `json:"Name"`
}

type record struct {
	callback
	Denied bool `json:"denied"`
}

func main() {
	listen := flag.String("listen", "", "address")
	bootstrap := flag.String("bootstrap", "", "broker")
	topic := flag.String("topic", "", "topic")
	deniedFile := flag.String("denied", "", "file of denied operators")
	token := flag.String("token", "", "token of Sign")
	flag.Parse()

	denied := readDenied(*deniedFile)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(*bootstrap),
		kgo.DefaultProduceTopic(*topic),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerLinger(5*time.Millisecond),
	)
	if err != nil {
		log.Fatal(err)
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		digest := sha256.Sum256([]byte(*token + query.Get("RequestTime")))
		expected := hex.EncodeToString(digest[:])
		if subtle.ConstantTimeCompare([]byte(expected), []byte(query.Get("Sign"))) != 1 {
			reply(w, http.StatusForbidden, `{"ActionStatus":"FAIL","ErrorInfo":"forged","ErrorCode":0}`)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		var received callback
		if err != nil || json.Unmarshal(body, &received) != nil {
			reply(w, http.StatusOK, `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}`)
			return
		}
		_, refused := denied[received.Operator]
		payload, err := json.Marshal(record{received, refused})
		if err != nil {
			reply(w, http.StatusInternalServerError, `{}`)
			return
		}
		message := &kgo.Record{Key: []byte(received.Operator), Value: payload}
		if client.ProduceSync(r.Context(), message).FirstErr() != nil {
			reply(w, http.StatusServiceUnavailable, `{}`)
			return
		}
		if refused {
			reply(w, http.StatusOK, `{"ActionStatus":"OK","ErrorInfo":"denied","ErrorCode":10101}`)
			return
		}
		reply(w, http.StatusOK, `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}`)
	}
	server := &http.Server{Addr: *listen, Handler: http.HandlerFunc(handler)}
	go func() { log.Println(server.ListenAndServe()) }()

	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	<-terminate
	deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = server.Shutdown(deadline)
	_ = client.Flush(deadline)
	client.Close()
}

func reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func readDenied(path string) map[string]struct{} {
	file, err := os.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	denied := make(map[string]struct{}, 100_000)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		denied[lines.Text()] = struct{}{}
	}
	return denied
}
