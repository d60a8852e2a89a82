package accel

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// A Digest is a whole SHA-256. It is never truncated: it is all that stands
// between one user's page and another's.
type Digest [sha256.Size]byte

// A Key is where a store keeps an entry. Two requests with the same Key get the
// same entry.
type Key struct {
	// Target is the hash of the request target without scheme and host. It
	// follows from Resource and adds nothing to its identity; it stands in
	// front so that a store with an order keeps all that one InvalidateURL may
	// strike in one place.
	Target Hash

	// Resource is the digest of Entry.Resource.
	Resource Digest

	// Variant is the digest of Entry.Variant, the zero Digest if that is empty.
	Variant Digest
}

// An Entry is a stored response: a rendered page in each of its codings, its
// header, when it is good until, and what it was made from.
//
// An Entry is immutable once it was given to a store or came from one. It must
// not be copied.
type Entry struct {
	Key Key
	At  Position // the store's position before the response was begun

	// Resource and Variant are the material that was hashed into Key. A hit
	// compares them, so that an entry is never served to a request that merely
	// has its key.
	Resource string
	Variant  string

	// Vary has the canonical, sorted names of the request headers whose values
	// are in Variant because the response names them in Vary; nil if none.
	Vary []string

	Status int     // 200, 404, ...
	Header []Field // sorted by name; neither hop-by-hop fields nor those computed for each answer
	Tags   []string

	// ETag is the entity tag that the handler gave, as it gave it; empty if it
	// gave none. A validation asks the handler whether it is still that one.
	ETag string

	// Control has the fields of the response that are read in place of
	// Cache-Control and not sent on. What a renewed response may do depends on
	// them.
	Control []Field

	// Marks are the hashes under which invalidations look for the entry: first
	// that of its URL, then that of its target, then one for each of Tags.
	Marks []Hash

	// Bodies has the representation in its codings, in the server's order of
	// preference. There is at least one, and each coding occurs once.
	Bodies []Body

	// Length is the length of the identity coding in bytes, -1 if unknown
	// (the handler encoded the body itself in a coding we do not read).
	Length int64

	// Date is when the response was generated: the origin's Date, or when the
	// handler's header was written.
	Date time.Time
	// InitialAge is the age the response had at Date (RFC 9111, section 4.2.3):
	// what it was when it was received, less the time since Date.
	InitialAge time.Duration
	// FreshUntil ends freshness.
	FreshUntil time.Time
	// StaleWhileRevalidate and StaleIfError are windows after FreshUntil.
	StaleWhileRevalidate time.Duration
	StaleIfError         time.Duration
	// KeepUntil ends every use, those windows and validation included.
	KeepUntil time.Time

	// ByHandler says that CacheFor stored the entry, not HTTP's own freshness:
	// it is the origin's own word, kept true by its tags, and is served without
	// Age and with a new Date.
	ByHandler bool
	// Public says that the response may answer requests that bear an
	// Authorization field (RFC 9111, section 3.5).
	Public bool
	// MustRevalidate forbids every stale use (RFC 9111, section 5.2.2.2).
	MustRevalidate bool

	prepared preparedAnswers
}

// A Field is one header field with all its values, in their order. Without
// values it takes away what middleware around the cache has set.
type Field struct {
	Name   string // canonical
	Values []string
}

// A Body is a representation in one content coding.
type Body struct {
	Coding string // as in Content-Encoding: "zstd", "gzip", "br"; "" for identity
	// ETag is strong, quoted, and of this coding alone (RFC 9110, section
	// 8.8.3.3). A weak one that the handler gave stays weak and is the same in
	// all codings; empty if there is none.
	ETag string
	Data []byte
}

// A Hash stands for what an invalidation can name: a tag, a URL, a target. It
// is the first eight bytes of a SHA-256, domain-separated by [MarkKind]. A
// collision makes an invalidation strike an entry too many, never one too few.
type Hash uint64

// A MarkKind says what a Mark names.
type MarkKind uint8

// The kinds of marks. Their numbers are stored on disk.
const (
	KindTag    MarkKind = 1 // a tag
	KindURL    MarkKind = 2 // one scheme, host and target
	KindTarget MarkKind = 3 // a target on every scheme and host
	KindAll    MarkKind = 4 // everything
)

// A Mark names what an invalidation strikes. Make one with [TagMark],
// [URLMark], [TargetMark], or use [MarkAll].
type Mark struct {
	Kind MarkKind
	Hash Hash
	// Target, of a URL's mark, is the hash of its target, under which the
	// URL's entries stand.
	Target Hash
}

// MarkAll strikes everything.
var MarkAll = Mark{Kind: KindAll}

// TagMark is the mark of a tag.
func TagMark(tag string) Mark {
	return Mark{Kind: KindTag, Hash: hash(KindTag, tag)}
}

// URLMark is the mark of one URL in all its variants. The scheme and the host
// are in lower case; target is the request target in origin form, path and
// query as they were sent.
func URLMark(scheme, host, target string) Mark {
	return Mark{Kind: KindURL, Hash: hash(KindURL, scheme, host, target), Target: TargetMark(target).Hash}
}

// TargetMark is the mark of a target on every scheme and host.
func TargetMark(target string) Mark {
	return Mark{Kind: KindTarget, Hash: hash(KindTarget, target)}
}

func hash(kind MarkKind, fields ...string) Hash {
	b := make([]byte, 0, 256)
	b = append(b, byte(kind))
	for _, f := range fields {
		b = appendField(b, f)
	}
	sum := sha256.Sum256(b)
	return Hash(binary.BigEndian.Uint64(sum[:8]))
}

// appendField appends f with its length in front. Without the length, the path
// "/a" with the query "b=1" and the path "/ab" with "=1" would be one key, as
// they were in this library's predecessor.
func appendField(b []byte, f string) []byte {
	b = binary.AppendUvarint(b, uint64(len(f)))
	return append(b, f...)
}
