package serve_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/examples/internal/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunLetsRequestsFinish(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	begun := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-ctx.Done() // the server has been told to end
		_, _ = io.WriteString(w, "finished")
	})
	answer := make(chan string, 1)
	err := serve.Run(ctx, "localhost:0", handler, func(url string) {
		assert.Regexp(t, `^http://localhost:\d+$`, url)
		go func() {
			res, err := http.Get(url)
			if err != nil {
				answer <- err.Error()
				return
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			answer <- string(body)
		}()
		go func() { <-begun; stop() }()
	})
	assert.NoError(t, err)
	assert.Equal(t, "finished", <-answer)
	http.DefaultClient.CloseIdleConnections()
}

func TestRunSaysWhyItCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer taken.Close()
	err = serve.Run(t.Context(), taken.Addr().String(), http.NotFoundHandler(), func(string) { t.Error("it listens") })
	assert.ErrorContains(t, err, taken.Addr().String())
	assert.ErrorContains(t, err, "-addr")
}

func TestLog(t *testing.T) {
	var lines bytes.Buffer
	flushed := false
	handler := serve.Log(&lines, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hit":
			w.Header().Set("Cache-Status", "Accelerator; hit")
			_, _ = w.Write(make([]byte, 1500))
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
		case "/flush":
			flushed = http.NewResponseController(w).Flush() == nil
		case "/abort":
			panic(http.ErrAbortHandler)
		}
	}))
	ask := func(target string) string {
		lines.Reset()
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, target, nil))
		return lines.String()
	}
	assert.Regexp(t, `^\d\d:\d\d:\d\d 200    1\.5 kB +\S+s  GET  /hit  \[Accelerator; hit\]\n$`, ask("/hit"))
	assert.Regexp(t, ` 418       0 B .* /early  \[pass\]\n$`, ask("/early"))
	assert.Regexp(t, `GET  /a%1b\[b\?q=%1b  \[pass\]\n$`, ask("/a%1b[b?q=%1b"))
	assert.Contains(t, ask("/flush"), " 200 ")
	assert.True(t, flushed, "Flush does not reach the server's writer")

	lines.Reset()
	assert.Panics(t, func() { ask("/abort") })
	assert.Contains(t, lines.String(), "/abort")
}
