package codec_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/codec"
)

func TestWorth(t *testing.T) {
	yes := []string{
		"text/html", "text/html; charset=utf-8", "TEXT/HTML;charset=UTF-8", "  text/css ; x=y", "text/plain", "text/csv",
		"text/javascript", "text/vtt", "text/xml", "text/markdown",
		"application/json", "application/json; charset=utf-8", "application/ld+json", "application/problem+json",
		"Application/Vnd.Api+JSON", "application/manifest+json", "application/geo+json-seq", "application/x-ndjson",
		"application/javascript", "application/x-javascript", "application/ecmascript", "application/wasm",
		"application/xml", "application/rss+xml", "application/atom+xml; charset=utf-8", "application/xhtml+xml",
		"application/yaml", "application/openapi+yaml",
		"image/svg+xml", "image/x-icon", "image/vnd.microsoft.icon", "image/bmp",
		"font/ttf", "font/otf", "application/vnd.ms-fontobject",
		"model/gltf+json",
	}
	for _, contentType := range yes {
		require.True(t, codec.Worth(contentType, 10_000), contentType)
		require.True(t, codec.Worth(contentType, codec.MinSize), contentType)
		for _, n := range []int{codec.MinSize - 1, 1, 0, -1} {
			require.False(t, codec.Worth(contentType, n), "%s %d", contentType, n)
		}
	}
	no := []string{
		"", ";", "text", "text/", "/html", "html", "nonsense", "*/*",
		"text/event-stream", "Text/Event-Stream; charset=utf-8",
		"image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "font/woff", "font/woff2",
		"video/mp4", "video/webm", "audio/mpeg", "audio/ogg",
		"application/zip", "application/gzip", "application/zstd", "application/x-7z-compressed", "application/epub+zip",
		"application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/java-archive",
		"application/pdf", "application/octet-stream", "application/x-unknown", "multipart/form-data; boundary=x",
		"application/tlsrpt+gzip", "application/json+zip", "x=text/html",
	}
	for _, contentType := range no {
		require.False(t, codec.Worth(contentType, 10_000), "%q", contentType)
	}
}

// A list of types is easily wrong in its keys: they are compared in lower case.
func TestWorthEveryListedType(t *testing.T) {
	for _, contentType := range codec.CompressibleTypes() {
		require.True(t, codec.Worth(contentType, 1000), contentType)
	}
}
