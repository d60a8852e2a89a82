package accel_test

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// The tests named TestSecurity_ are the attacks that are known on caches, one
// after the other as docs/security.md lists them. Each looks at the bodies that
// were served, at what is in the store afterwards, and at how often the handler
// ran.

// after compares the number of entries in the store and of calls of the handler.
// A store on disk counts an entry that it is just writing once it has written it.
func after(t testing.TB, c *accel.Cache, entries int64, calls *atomic.Int64, want int64) {
	t.Helper()
	got := c.Stats().Store.Entries
	for i := 0; i < 1e6 && got != entries; i++ {
		runtime.Gosched()
		got = c.Stats().Store.Entries
	}
	equal(t, "entries in the store", got, entries)
	equal(t, "handler calls", calls.Load(), want)
}

// counting returns h and how often it was called.
func counting(h http.HandlerFunc) (http.HandlerFunc, *atomic.Int64) {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h(w, r)
	}, &n
}

// A regime is a policy, and what a handler says in it to have its response
// stored for an hour.
type regime struct {
	opts  []accel.Option
	allow func(w http.ResponseWriter, r *http.Request)
}

var regimes = map[string]regime{
	"OptIn": {nil, func(_ http.ResponseWriter, r *http.Request) { accel.CacheFor(r.Context(), time.Hour) }},
	"RFC9111": {[]accel.Option{accel.WithPolicy(accel.RFC9111)}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
	}},
}

// inBoth runs a test under each policy.
func inBoth(t *testing.T, f func(t *testing.T, g regime)) {
	for name, g := range regimes {
		t.Run(name, func(t *testing.T) { f(t, g) })
	}
}

// parsed returns the request that net/http makes of these lines: those of
// example.com with this target, or none if it refuses them.
func parsed(target string, lines ...string) (*http.Request, error) {
	text := "GET " + target + " HTTP/1.1\r\nHost: example.com\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n"
	return http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
}

// sendRaw writes these bytes to a server and returns all that it answers until it
// closes the connection.
func sendRaw(t testing.TB, addr, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	go func() { _, _ = io.WriteString(conn, request) }()
	b, err := io.ReadAll(conn)
	if err != nil && len(b) == 0 && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	return string(b)
}

// asking writes a request that ends the connection.
func asking(method, target, host string, lines ...string) string {
	lines = append([]string{"Host: " + host, "Connection: close"}, lines...)
	return fmt.Sprintf("%s %s HTTP/1.1\r\n%s\r\n\r\n", method, target, strings.Join(lines, "\r\n"))
}

// Every row of the list is in the table of docs/security.md, with tests that
// exist or with a reason.
func TestSecurityTable(t *testing.T) {
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(b, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}

	rows := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([KPSRD]\d+) \|([^|\n]*)\|([^|\n]*)\|$`).FindAllStringSubmatch(string(page), -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("%s has two rows", m[1])
		}
		if len(strings.TrimSpace(m[2])) < 10 {
			t.Errorf("%s does not say what it is about", m[1])
		}
		rows[m[1]] = m[3]
	}
	mentioned := map[string]bool{}
	name := regexp.MustCompile("`((?:Test|Fuzz|Example)\\w*)`")
	for _, series := range []struct {
		letter string
		n      int
	}{{"K", 14}, {"P", 8}, {"S", 12}, {"R", 14}, {"D", 13}} {
		for i := range series.n {
			id := fmt.Sprint(series.letter, i+1)
			cell, ok := rows[id]
			delete(rows, id)
			if !ok {
				t.Errorf("%s has no row", id)
				continue
			}
			named := name.FindAllStringSubmatch(cell, -1)
			for _, m := range named {
				mentioned[m[1]] = true
				if !tests[m[1]] {
					t.Errorf("%s names %s, which does not exist", id, m[1])
				}
			}
			if why, ok := strings.CutPrefix(strings.TrimSpace(cell), "does not apply:"); len(named) == 0 && (!ok || len(why) < 10) {
				t.Errorf("%s has neither a test nor a reason: %s", id, cell)
			}
		}
	}
	for id := range rows {
		t.Errorf("%s is in no list", id)
	}
	for test := range tests {
		if strings.HasPrefix(test, "TestSecurity_") && !mentioned[test] {
			t.Errorf("%s is not in the table", test)
		}
	}
}
