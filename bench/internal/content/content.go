// Package content has what the benchmarks serve: pages that examples/godoc
// renders, one after another, cut to the sizes that are asked for, and JSON about
// the same packages. A text that repeats itself would compress to nothing, and
// everything behind the compression would look faster than it is.
package content

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/accelhttp/accelerator/examples/godoc/page"
)

// packages are rendered in this order, until there is enough.
var packages = []string{
	"unicode/utf8", "strings", "bytes", "sort", "time", "os", "io", "bufio", "errors",
	"fmt", "reflect", "regexp", "sync", "text/template", "html/template", "encoding/json",
	"encoding/binary", "net/url", "net/http", "net/http/httputil", "crypto/tls", "crypto/x509",
	"database/sql", "go/ast", "go/types", "go/doc", "log/slog", "math/big", "net", "net/netip",
	"testing", "context", "archive/tar", "archive/zip", "image", "runtime", "debug/elf",
}

// A Corpus is rendered text. It is immutable, and safe for concurrent use.
type Corpus struct {
	html  []byte // the bodies of the pages, without the heads: these are all alike
	facts []fact
}

type fact struct {
	Path    string   `json:"path"`
	Imports []string `json:"imports"`
	Bytes   int      `json:"bytes"`
}

// Load renders pages until there are at least so many bytes. With a few KiB it
// takes some milliseconds, with 2 MiB about a second.
func Load(bytesWanted int) (*Corpus, error) {
	lib, err := page.Open("")
	if err != nil {
		return nil, err
	}
	defer lib.Close()
	c := &Corpus{}
	for _, path := range packages {
		if len(c.html) >= bytesWanted && len(c.facts) > 0 {
			return c, nil
		}
		p, err := lib.Package(context.Background(), path)
		if err != nil {
			return nil, fmt.Errorf("content: render %s: %w", path, err)
		}
		body := p.HTML
		if i := bytes.Index(body, []byte("<body")); i >= 0 {
			body = body[i:]
		}
		c.html = append(c.html, body...)
		c.facts = append(c.facts, fact{path, p.Imports, len(p.HTML)})
	}
	if len(c.html) < bytesWanted {
		return nil, fmt.Errorf("content: %d bytes were rendered, %d are wanted", len(c.html), bytesWanted)
	}
	return c, nil
}

// stride is from one page to the next. It is a prime, so that pages lie apart and
// come round to the same place late.
const stride = 4099

// Page returns the i-th page of n bytes: a piece of the corpus, which is not to be
// written to. n is at most half of what was loaded.
func (c *Corpus) Page(i, n int) []byte {
	from := i * stride % (len(c.html) - n)
	return c.html[from : from+n : from+n]
}

// JSON returns a document of about n bytes, a little less.
func (c *Corpus) JSON(n int) []byte {
	const begin, end = `{"packages":[`, `]}`
	doc := []byte(begin)
	for i := 0; ; i++ {
		f := c.facts[i%len(c.facts)]
		f.Bytes += i // no two alike
		item, err := json.Marshal(f)
		if err != nil {
			panic(err) // it is made of strings and numbers
		}
		if len(doc)+len(item)+1+len(end) > n {
			break
		}
		if i > 0 {
			doc = append(doc, ',')
		}
		doc = append(doc, item...)
	}
	return append(doc, end...)
}
