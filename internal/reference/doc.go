// Package reference holds the middleware against a cache that is plain, slow and
// obviously right, by random requests. It has nothing but tests.
package reference
