package accel

import "net/http"

// CaptureOf returns what a handler gets over a writer, for tests that look at
// its interfaces.
func CaptureOf(w http.ResponseWriter) http.ResponseWriter {
	return (&capture{under: w}).writer()
}

// KeyedHeaders returns the names that are part of the key.
func KeyedHeaders() []string { return keyedHeaders[:] }

// ResourceOf returns the material of a request's key.
func ResourceOf(r *http.Request, extra func(*http.Request) string) string {
	q := (&options{key: extra}).ask(r)
	defer q.release()
	return string(q.resource)
}
