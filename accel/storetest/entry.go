package storetest

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// Scheme and Host are where a resource is that is named by its target alone.
const (
	Scheme = "http"
	Host   = "example.org"
)

// An EntryOption sets something of an entry that [Entry] builds.
type EntryOption func(*accel.Entry)

// Entry builds an entry as the middleware would. url is a request target, on
// [Host], or has its scheme and host in front ("https://example.com/a"). Without
// options it is a small text of position zero, made at [Start], fresh for one
// hour and kept for two.
func Entry(url string, opts ...EntryOption) *accel.Entry {
	scheme, host, target := split(url)
	e := &accel.Entry{
		Resource:   strings.Join([]string{scheme, host, target}, "\n"),
		Status:     200,
		Header:     []accel.Field{{Name: "Content-Type", Values: []string{"text/plain"}}},
		Date:       Start,
		FreshUntil: Start.Add(time.Hour),
		KeepUntil:  Start.Add(2 * time.Hour),
	}
	Text("text of " + url)(e)
	for _, o := range opts {
		o(e)
	}
	e.Key.Target = accel.TargetMark(target).Hash
	e.Key.Resource = sha256.Sum256([]byte(e.Resource))
	if e.Variant != "" {
		e.Key.Variant = sha256.Sum256([]byte(e.Variant))
	}
	e.Marks = []accel.Hash{accel.URLMark(scheme, host, target).Hash, accel.TargetMark(target).Hash}
	for _, tag := range e.Tags {
		e.Marks = append(e.Marks, accel.TagMark(tag).Hash)
	}
	return e
}

// Key returns the key of the entry that [Entry] builds of a URL and a variant.
func Key(url, variant string) accel.Key { return Entry(url, Variant(variant)).Key }

// URLMark returns the mark of a URL as [Entry] reads it.
func URLMark(url string) accel.Mark { return accel.URLMark(split(url)) }

// TargetMark returns the mark of a URL's target.
func TargetMark(url string) accel.Mark {
	_, _, target := split(url)
	return accel.TargetMark(target)
}

func split(url string) (scheme, host, target string) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return Scheme, Host, url
	}
	host, target, _ = strings.Cut(rest, "/")
	return scheme, host, "/" + target
}

// At sets the position.
func At(p accel.Position) EntryOption { return func(e *accel.Entry) { e.At = p } }

// Variant sets the material of the variant's key.
func Variant(v string) EntryOption { return func(e *accel.Entry) { e.Variant = v } }

// Vary sets the names that select among variants, to be given in order.
func Vary(names ...string) EntryOption { return func(e *accel.Entry) { e.Vary = names } }

// Tags sets the tags, and their marks.
func Tags(tags ...string) EntryOption { return func(e *accel.Entry) { e.Tags = tags } }

// Text makes an uncompressed text the only body.
func Text(s string) EntryOption {
	return func(e *accel.Entry) {
		e.Bodies = []accel.Body{body("", []byte(s))}
		e.Length = int64(len(s))
	}
}

// Size makes an uncompressed body of n bytes the only one.
func Size(n int) EntryOption { return Text(strings.Repeat("x", n)) }

// Codings sets bodies in these content codings. Their data are not really
// encoded: no store looks at them.
func Codings(codings ...string) EntryOption {
	return func(e *accel.Entry) {
		e.Bodies = nil
		for _, c := range codings {
			e.Bodies = append(e.Bodies, body(c, []byte(c+" of "+e.Resource)))
		}
	}
}

func body(coding string, data []byte) accel.Body {
	sum := sha256.Sum256(data)
	return accel.Body{Coding: coding, ETag: fmt.Sprintf(`"%x%s"`, sum[:8], coding), Data: data}
}

// Times sets when the entry was made, until when it is fresh, and until when it
// is kept.
func Times(date, freshUntil, keepUntil time.Time) EntryOption {
	return func(e *accel.Entry) { e.Date, e.FreshUntil, e.KeepUntil = date, freshUntil, keepUntil }
}

// KeepUntil sets the end of every use.
func KeepUntil(t time.Time) EntryOption { return func(e *accel.Entry) { e.KeepUntil = t } }

// Full returns an entry in which no field is zero, and awkward values stand
// where there can be some.
func Full(at accel.Position) *accel.Entry {
	return Entry("https://sub.example.com:8443/a%2Fb?q=%00&r=\xff",
		At(at), Variant("accept-language\x00de\xff"), Vary("Accept-Language", "X-Forwarded-Proto"),
		Tags("user:1", "", "tag with spaces, \x00 and \xff"),
		func(e *accel.Entry) {
			e.Status = 404
			e.ETag = `W/"v1"`
			e.Header = []accel.Field{
				{Name: "Cache-Control", Values: []string{"max-age=1", "public"}},
				{Name: "X-Empty", Values: []string{""}},
				{Name: "X-Latin", Values: []string{"caf\xe9"}},
			}
			e.Control = []accel.Field{{Name: "Surrogate-Control", Values: []string{"max-age=1", ""}}}
			e.Bodies = []accel.Body{
				body("zstd", []byte("\x28\xb5\x2f\xfd\x00")), body("gzip", []byte{0x1f, 0x8b}), body("", nil),
			}
			e.Length = 17
			e.InitialAge = 3*time.Second + 1
			e.StaleWhileRevalidate = time.Minute
			e.StaleIfError = time.Hour
			e.ByHandler, e.Public, e.MustRevalidate = true, true, true
		})
}

// Diff describes the first difference between two entries, "" if there is none.
// Times are compared as moments, and no difference is made between nil and
// empty. Epochs are not compared: they pass, numbers stay.
func Diff(want, got *accel.Entry) string {
	switch {
	case want == got:
		return ""
	case want == nil || got == nil:
		return fmt.Sprintf("want %v, got %v", want, got)
	}
	w, g := reflect.ValueOf(want).Elem(), reflect.ValueOf(got).Elem()
	for i := range w.NumField() {
		f := w.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		a, b := w.Field(i).Interface(), g.Field(i).Interface()
		same := false
		switch x := a.(type) {
		case accel.Position:
			same = x.N == b.(accel.Position).N
		case time.Time:
			same = x.Equal(b.(time.Time))
		case []accel.Body:
			y := b.([]accel.Body)
			same = len(x) == len(y)
			for j := 0; same && j < len(x); j++ {
				same = x[j].Coding == y[j].Coding && x[j].ETag == y[j].ETag && string(x[j].Data) == string(y[j].Data)
			}
		default:
			same = reflect.DeepEqual(a, b) ||
				f.Type.Kind() == reflect.Slice && w.Field(i).Len() == 0 && g.Field(i).Len() == 0
		}
		if !same {
			return fmt.Sprintf("%s: want %.300q, got %.300q", f.Name, fmt.Sprint(a), fmt.Sprint(b))
		}
	}
	return ""
}
