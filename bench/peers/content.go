//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"

	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/examples/godoc/page"
)

// A content is what one run serves, under every URL the same.
type content struct {
	name  string
	plain []byte // what a handler writes that leaves compression to others
	sent  []byte // what the client gets
	// fields are those of an origin that has the sent bytes prepared.
	fields http.Header
	// accept is the value of Accept-Encoding that the client sends.
	accept string
}

func (c *content) coding() string { return c.fields.Get("Content-Encoding") }

// loadContent returns the content of that name. Its bytes are the same in each
// process, because codings are deterministic.
func loadContent(name string) (*content, error) {
	switch name {
	case "json":
		body := document()
		return prepared(name, body, body, http.Header{
			"Content-Type": {"application/json"},
			// So that a cache that compresses keeps it as it is.
			"Cache-Control": {"no-transform"},
		}), nil
	case "html":
		lib, err := page.Open("")
		if err != nil {
			return nil, err
		}
		defer lib.Close()
		// Of the pages that are no larger than what our cache holds until the
		// handler returns (64 KiB), the one whose gzip form is nearest to 16 KiB.
		p, err := lib.Package(context.Background(), "crypto/rsa")
		if err != nil {
			return nil, err
		}
		packed, err := codec.Encode(nil, codec.Gzip, p.HTML)
		if err != nil {
			return nil, err
		}
		return prepared(name, p.HTML, packed, http.Header{
			"Content-Type":     {"text/html; charset=utf-8"},
			"Content-Encoding": {"gzip"},
			"Vary":             {"Accept-Encoding"},
		}), nil
	}
	return nil, fmt.Errorf("content %q is neither json nor html", name)
}

func prepared(name string, plain, sent []byte, fields http.Header) *content {
	sum := sha256.Sum256(sent)
	fields["Etag"] = []string{fmt.Sprintf(`"%x"`, sum[:16])}
	fields["Content-Length"] = []string{strconv.Itoa(len(sent))}
	return &content{name: name, plain: plain, sent: sent, fields: fields, accept: "gzip"}
}

// document is a JSON text of exactly 1 KiB.
func document() []byte {
	const size = 1 << 10
	var b bytes.Buffer
	b.WriteString(`{"users":[`)
	for i := 0; b.Len() < size-100; i++ {
		fmt.Fprintf(&b, `{"id":%d,"name":"user %d","since":%d},`, i, i*i, 2000+i)
	}
	b.WriteString(`null],"note":"`)
	for i := 0; b.Len() < size-2; i++ {
		b.WriteByte("the rest is silence "[i%20])
	}
	b.WriteString(`"}`)
	return b.Bytes()
}
