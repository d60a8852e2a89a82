package accel

import (
	"net/http"
	"time"
)

// CaptureOf returns what a handler gets over a writer, for tests that look at
// its interfaces.
func CaptureOf(w http.ResponseWriter) http.ResponseWriter {
	return (&capture{under: w}).writer()
}

// Recalled reports whether something is remembered a while after it was
// remembered for a second.
func Recalled(while time.Duration) bool {
	var m recollection
	now := time.Unix(1<<31, 0)
	key := flightKey{Key: Key{Resource: Digest{1}}}
	m.remember(key, 0, now.Add(time.Second))
	_, ok := m.recall(key, now.Add(while))
	return ok
}

// KeyedHeaders returns the names that are part of the key.
func KeyedHeaders() []string { return keyedHeaders[:] }

// ResourceOf returns the material of a request's key.
func ResourceOf(r *http.Request, extra func(*http.Request) string) string {
	q := (&options{key: extra}).ask(r)
	defer q.release()
	return string(q.resource)
}

// Settle waits for what is being stored behind answers.
func Settle(c *Cache) { c.behind.wg.Wait() }
