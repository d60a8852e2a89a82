//go:build unix

package examples

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

// build compiles the programs of the module under test and returns where they
// are.
func build(t *testing.T, pkgs ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, pkgs...)
	out, err := exec.Command("go", args...).CombinedOutput()
	require.NoError(t, err, "go build: %s", out)
	return dir
}

// A program is an example that is running.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	url string
	log *bytes.Buffer
	end chan error
}

var servesAt = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// start starts an example and waits until it says where it listens.
func start(t *testing.T, bin string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(bin, args...), log: &bytes.Buffer{}, end: make(chan error, 1)}
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	ready := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			fmt.Fprintln(p.log, lines.Text())
			if at := servesAt.FindString(lines.Text()); at != "" {
				select {
				case ready <- at:
				default:
				}
			}
		}
		close(ready)
		p.end <- p.cmd.Wait()
	}()
	select {
	case at, ok := <-ready:
		require.True(t, ok, "it ended: %s", p.log)
		p.url = at
	case <-time.After(30 * time.Second):
		t.Fatalf("%s does not say where it listens: %s", bin, p.log)
	}
	return p
}

// stop sends a signal and waits for the end.
func (p *program) stop(sig syscall.Signal) error {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(sig))
	select {
	case err := <-p.end:
		return err
	case <-time.After(20 * time.Second):
		p.t.Fatal("it does not end")
		return nil
	}
}

// answer is a response with its body read, as it was sent.
type answer struct {
	*http.Response
	body []byte
	took time.Duration
}

func (a answer) hit() bool { return strings.Contains(a.Header.Get("Cache-Status"), "; hit") }

func (p *program) do(method, path string, header ...string) answer {
	p.t.Helper()
	req, err := http.NewRequest(method, p.url+path, nil)
	require.NoError(p.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	begin := time.Now()
	resp, err := plain.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return answer{resp, body, time.Since(begin)}
}

func (p *program) get(path string, header ...string) answer {
	p.t.Helper()
	a := p.do("GET", path, header...)
	require.Contains(p.t, []int{200, 304}, a.StatusCode, "%s: %s", path, a.body)
	return a
}

// plain decodes nothing and sends no Accept-Encoding of its own.
var plain = &http.Client{
	Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true},
	Timeout:   time.Minute,
}

// TestMainJob is the promise of the library, from end to end: a cached site that
// survives a restart, of which exactly the pages are rendered again that were
// made from what changed, and whose database can be looked at and purged from a
// terminal.
func TestMainJob(t *testing.T) {
	bin := build(t, "./godoc", "../cmd/accel-inspect")
	db := filepath.Join(t.TempDir(), "cache.db")
	addr := "127.0.0.1:0"
	run := func() *program {
		t.Helper()
		p := start(t, filepath.Join(bin, "godoc"), "-addr", addr, "-db", db)
		addr = strings.TrimPrefix(p.url, "http://") // the host is part of a page's key
		return p
	}
	inspect := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(filepath.Join(bin, "accel-inspect"), args...)
		cmd.Dir = filepath.Dir(db)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "accel-inspect %v: %s", args, out)
		return string(out)
	}
	pages := []string{"/net/http", "/bufio", "/unicode/utf8"}

	p := run()
	miss := p.get("/net/http", "Accept-Encoding", "gzip")
	require.False(t, miss.hit(), miss.Header)
	best := time.Hour
	for range 5 {
		again := p.get("/net/http", "Accept-Encoding", "gzip")
		require.True(t, again.hit(), again.Header)
		best = min(best, again.took)
	}
	t.Logf("/net/http: %v rendered, %v from the cache: %.0f times faster", miss.took, best, float64(miss.took)/float64(best))
	for _, page := range pages {
		p.get(page)
		require.True(t, p.get(page).hit(), page)
	}

	t.Run("codings", func(t *testing.T) {
		decode := map[string]func([]byte) ([]byte, error){
			"zstd": func(b []byte) ([]byte, error) {
				d, err := zstd.NewReader(nil)
				if err != nil {
					return nil, err
				}
				defer d.Close()
				return d.DecodeAll(b, nil)
			},
			"gzip": func(b []byte) ([]byte, error) {
				r, err := gzip.NewReader(bytes.NewReader(b))
				if err != nil {
					return nil, err
				}
				return io.ReadAll(r)
			},
			"": func(b []byte) ([]byte, error) { return b, nil },
		}
		etags := map[string]bool{}
		var bodies [][]byte
		for coding, read := range decode {
			ask := []string{}
			if coding != "" {
				ask = []string{"Accept-Encoding", coding}
			}
			a := p.get("/bufio", ask...)
			require.Equal(t, coding, a.Header.Get("Content-Encoding"))
			require.Equal(t, "Accept-Encoding", a.Header.Get("Vary"))
			body, err := read(a.body)
			require.NoError(t, err)
			bodies = append(bodies, body)
			etags[a.Header.Get("ETag")] = true
			same := p.get("/bufio", append(ask, "If-None-Match", a.Header.Get("ETag"))...)
			require.Equal(t, 304, same.StatusCode)
			require.Equal(t, a.Header.Get("ETag"), same.Header.Get("ETag"))
			require.Empty(t, same.body)
		}
		require.Len(t, etags, 3)
		require.Equal(t, bodies[0], bodies[1])
		require.Equal(t, bodies[1], bodies[2])
		require.Contains(t, string(bodies[0]), "bufio")
	})

	require.NoError(t, p.stop(syscall.SIGTERM), "SIGTERM ends it in order")
	p = run()
	for _, page := range pages {
		require.True(t, p.get(page).hit(), "%s after SIGTERM", page)
	}

	// What was stored a second before survives a kill.
	p.get("/strings")
	stored := time.Now()
	require.Eventually(t, func() bool { return time.Since(stored) > time.Second }, 5*time.Second, 50*time.Millisecond)
	require.Error(t, p.stop(syscall.SIGKILL))
	p = run()
	for _, page := range append(pages, "/strings") {
		require.True(t, p.get(page).hit(), "%s after kill -9", page)
	}

	touched := p.do("POST", "/touch?pkg=io")
	require.Equal(t, 200, touched.StatusCode, string(touched.body))
	for _, page := range []string{"/net/http", "/bufio"} {
		require.False(t, p.get(page).hit(), "%s depends on io", page)
		require.True(t, p.get(page).hit(), page)
	}
	require.True(t, p.get("/unicode/utf8").hit(), "it does not depend on io")
	require.Equal(t, 400, p.do("POST", "/touch").StatusCode)

	// An invalidation that was answered survives a kill.
	require.Equal(t, 200, p.do("POST", "/touch?pkg=bufio").StatusCode)
	require.Error(t, p.stop(syscall.SIGKILL))
	p = run()
	require.False(t, p.get("/bufio").hit(), "touched before the kill")
	require.False(t, p.get("/net/http").hit(), "it imports bufio")
	require.True(t, p.get("/unicode/utf8").hit())
	require.NoError(t, p.stop(syscall.SIGTERM))

	tags := inspect("tags", "cache.db")
	for _, tag := range []string{"pkg:io", "pkg:net/http", "pkg:unicode/utf8"} {
		require.Contains(t, tags, tag)
	}
	inspect("verify")
	t.Log("\n" + inspect("purge", "--tag", "pkg:io"))
	require.NotContains(t, inspect("keys"), "/bufio")
	require.Contains(t, inspect("keys"), "/unicode/utf8")
	p = run()
	for _, page := range []string{"/net/http", "/bufio"} {
		require.False(t, p.get(page).hit(), "%s was purged", page)
	}
	require.True(t, p.get("/unicode/utf8").hit(), "it was not purged")
	require.NoError(t, p.stop(syscall.SIGTERM))
	require.NotContains(t, p.log.String(), "panic")
}

// TestProfile changes one source and sees which pages are rendered again.
func TestProfile(t *testing.T) {
	bin := build(t, "./profile")
	p := start(t, filepath.Join(bin, "profile"), "-addr", "127.0.0.1:0")
	front := p.get("/")
	link := regexp.MustCompile(`href="(/people/[a-z0-9]+)"`).FindStringSubmatch(string(front.body))
	require.NotNil(t, link, "a link to somebody: %s", front.body)
	page := link[1]
	p.get(page)
	require.True(t, p.get(page).hit(), page)

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := &http.Client{Jar: jar, Timeout: time.Minute}
	form := regexp.MustCompile(`(?s)<form[^>]*action="([^"]*status[^"]*)".*?</form>`).FindStringSubmatch(string(p.get(page).body))
	require.NotNil(t, form, "a form for the status")
	field := regexp.MustCompile(`<(?:input|textarea)[^>]*name="([^"]+)"`).FindAllStringSubmatch(form[0], -1)
	require.NotEmpty(t, field)
	values := url.Values{}
	for _, f := range field {
		values.Set(f[1], "written by a test")
	}
	resp, err := client.PostForm(p.url+form[1], values)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode, string(body))
	require.Contains(t, string(p.get(page).body), "written by a test")
	require.NoError(t, p.stop(syscall.SIGTERM))
}
