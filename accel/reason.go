package accel

import "github.com/accelhttp/accelerator/internal/rfc9111"

// Why a response was not stored: the texts of rfc9111.Reason, and these. They
// stand in the detail of Cache-Status, so each is a token; they stay the same
// between versions.
const (
	storable = "" // there is no reason

	// What the handler said.
	reasonVetoed      = "vetoed"        // NoStore was called
	reasonInvalidTag  = "invalid-tag"   // a tag that cannot be invalidated
	reasonTooManyTags = "too-many-tags" // more than MaxTags

	// What the handler did.
	reasonFlushed       = "flushed"        // it sent a part before it was done
	reasonHijacked      = "hijacked"       // it took the connection
	reasonFullDuplex    = "full-duplex"    // it reads while it writes
	reasonCrashed       = "crashed"        // it panicked or ended its goroutine
	reasonEmpty         = "no-response"    // it returned without writing even a header
	reasonLength        = "bad-length"     // more or less than its Content-Length
	reasonCancelled     = "cancelled"      // everybody who waited for it left
	reasonFailed        = "failed"         // a stale entry was served in its place
	reasonRefreshFailed = "refresh-failed" // in the background; what is stored stays
	reasonOvertaken     = "overtaken"      // somebody else's was stored meanwhile
	reasonConfirmed     = "confirmed"      // a 304: the stored entry is still what it would send

	// What the response is.
	reasonTooLarge    = "too-large"         // above WithMaxBody, or what the store takes
	reasonLargeHeader = "header-too-large"  // above maxHeader
	reasonEncoding    = "content-encoding"  // in several codings on top of each other
	reasonMixed       = "mixed-header"      // it adds to a field of middleware around the cache
	reasonTransfer    = "transfer-encoding" // the handler speaks to the connection
	reasonCondition   = "precondition"      // 412: it answers a condition of the client's

	// What the client takes: none of the codings that are stored, nor of those
	// that can be made from them.
	reasonNotAcceptable = "not-acceptable"

	// What the client wants: nothing but what is stored, and nothing is.
	reasonOnlyIfCached = "only-if-cached"

	// What the store said.
	reasonInvalidated = "invalidated" // an invalidation came while it was made
	reasonStoreBusy   = "store-busy"
	reasonStoreError  = "store-error"
)

var (
	reasonMethod = rfc9111.ReasonMethod.String()
	reasonCookie = rfc9111.ReasonCookie.String()
)

// aboutResponse reports whether a reason speaks of the response as such, so that
// the next one for the key will likely not be stored either, and an entry that
// it was to replace is not what the handler would answer any more.
func aboutResponse(reason string) bool {
	switch reason {
	case reasonMethod, reasonCondition, reasonNotAcceptable, reasonCrashed, reasonEmpty, reasonCancelled, reasonFailed, reasonRefreshFailed, reasonOvertaken,
		reasonInvalidated, reasonStoreBusy, reasonStoreError,
		rfc9111.ReasonRequestNoStore.String():
		return false
	}
	return true
}
