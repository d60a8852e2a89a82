package boltstore_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
)

// In a rolling restart the process that waits for the file does not hear of what the
// other invalidates. So its requests share no response: one that came after the
// other's invalidation had returned would be given what was made before it.
func TestNobodyFollowsWhileAnotherHasTheFile(t *testing.T) {
	path := dbPath(t)
	first := boltstore.Open(path, quiet, patient)
	require.NoError(t, first.Ping(bg))
	second := boltstore.Open(path, quiet, patient)
	require.ErrorIs(t, second.Ping(bg), boltstore.ErrLocked)

	var version, calls atomic.Int64
	began, goOn := make(chan struct{}), make(chan struct{})
	c := accel.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		accel.Tag(r.Context(), "x")
		n := version.Load()
		if calls.Add(1) == 1 {
			close(began)
			<-goOn
		}
		fmt.Fprint(w, "version ", n)
	}), second)
	get := func() string {
		w := httptest.NewRecorder()
		c.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		return w.Body.String()
	}
	early := make(chan string)
	go func() { early <- get() }()
	<-began
	version.Store(1)
	require.NoError(t, first.Invalidate(bg, accel.TagMark("x")))
	require.Equal(t, "version 1", get())
	close(goOn)
	require.Equal(t, "version 0", <-early)
	require.Zero(t, second.Begin())

	// What is begun when it has the file itself is stored and shared.
	require.NoError(t, first.Close())
	eventually(t, func() bool { return second.Err() == nil }, "takes over")
	require.Equal(t, "version 1", get())
	n := calls.Load()
	require.Equal(t, "version 1", get())
	require.Equal(t, n, calls.Load())
	require.NoError(t, c.Close())
}
