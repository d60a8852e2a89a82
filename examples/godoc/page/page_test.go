package page_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/examples/godoc/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB) *page.Library {
	t.Helper()
	library, err := page.Open("")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, library.Close()) })
	return library
}

func render(t testing.TB, library *page.Library, importPath string) page.Page {
	t.Helper()
	got, err := library.Package(t.Context(), importPath)
	require.NoError(t, err, importPath)
	return got
}

func TestPackages(t *testing.T) {
	paths, err := open(t).Packages()
	require.NoError(t, err)
	assert.IsIncreasing(t, paths)
	assert.Greater(t, len(paths), 120)
	for _, want := range []string{"archive/tar", "bufio", "builtin", "io", "math/rand/v2", "net/http", "unicode/utf8", "unsafe"} {
		assert.Contains(t, paths, want)
	}
	for _, importPath := range paths {
		assert.NotRegexp(t, `(^|/)(internal|vendor|testdata)(/|$)|^cmd(/|$)`, importPath)
	}
	for _, absent := range []string{"archive", "encoding/json/testdata", "go"} {
		assert.NotContains(t, paths, absent)
	}
}

// What is listed can be rendered, and what a page links to is listed.
func TestEveryPackageRenders(t *testing.T) {
	if testing.Short() {
		t.Skip("renders the whole library")
	}
	library := open(t)
	paths, err := library.Packages()
	require.NoError(t, err)
	listed := map[string]bool{"": true}
	for _, importPath := range paths {
		listed[importPath] = true
	}
	href := regexp.MustCompile(` href="/([^"#]*)`)
	id := regexp.MustCompile(` id="([^"]*)"`)
	for _, importPath := range paths {
		got := render(t, library, importPath)
		assert.Equal(t, importPath, got.ImportPath)
		assert.Less(t, len(got.Imports), 127, "%s has more tags than one response may carry", importPath)
		for _, link := range href.FindAllSubmatch(got.HTML, -1) {
			assert.True(t, listed[string(link[1])], "%s links to /%s", importPath, link[1])
		}
		seen := make(map[string]bool)
		for _, match := range id.FindAllSubmatch(got.HTML, -1) {
			assert.False(t, seen[string(match[1])], "%s has two elements %q", importPath, match[1])
			seen[string(match[1])] = true
		}
		for _, fragment := range regexp.MustCompile(` href="#([^"]*)"`).FindAllSubmatch(got.HTML, -1) {
			assert.True(t, seen[string(fragment[1])], "%s links to #%s", importPath, fragment[1])
		}
	}
}

func TestImports(t *testing.T) {
	library := open(t)
	bufio := render(t, library, "bufio").Imports
	assert.Subset(t, bufio, []string{"bytes", "errors", "io", "strings", "unicode/utf8"})
	assert.NotContains(t, bufio, "testing", "imports of tests are none of the package's")
	assert.NotContains(t, bufio, "sync", "imports of imports are none of the package's")

	assert.NotContains(t, render(t, library, "unicode/utf8").Imports, "io")

	http := render(t, library, "net/http").Imports
	assert.IsIncreasing(t, http)
	assert.Subset(t, http, []string{"bufio", "io", "net", "net/url", "crypto/tls"})
	assert.NotContains(t, http, "net/http/httptest")
}

func TestContent(t *testing.T) {
	library := open(t)
	html := string(render(t, library, "net/http").HTML)
	for _, want := range []string{
		"<title>http package - net/http</title>",
		`<h2 id="pkg-overview">`,
		"Package http provides HTTP client and server implementations.",
		`<h3 class="symbol" id="ListenAndServe">`,
		`<h4 class="symbol" id="Client.Do">`,
		`<span id="Server.Handler">Handler</span>`,                       // a field can be linked to
		`<span id="StatusTeapot">StatusTeapot</span>`,                    // and a constant
		`<a href="/time">time</a>.<a href="/time#Duration">Duration</a>`, // from a signature to another package
		`<a href="/builtin#string">string</a>`,
		`<a href="#Request">Request</a>`,
		`href="/io#EOF"`,                  // a doc link
		`<details id="example-FileServer`, // an example
		`<a href="/net/http#ListenAndServe">ListenAndServe</a>`,
		`<a href="/net/http/httptest">httptest</a>`, // a directory below
		"<li>server.go</li>",
		`<li><a href="/net">net</a></li>`, // a breadcrumb
		">deprecated<",
	} {
		assert.True(t, strings.Contains(html, want), "net/http lacks %s", want)
	}
	assert.False(t, strings.Contains(html, "serve_test.go"), "tests are no source files of the package")
	assert.Greater(t, len(html), 100<<10)

	utf8 := string(render(t, library, "unicode/utf8").HTML)
	assert.True(t, strings.Contains(utf8, `<p class="label">Output</p>`))
	assert.False(t, strings.Contains(utf8, "// Output:"), "the output is shown once")
}

// Markup in comments and code is text of the page, not part of it.
func TestEscaping(t *testing.T) {
	library := open(t)
	for _, importPath := range []string{"html", "html/template", "encoding/xml"} {
		html := render(t, library, importPath).HTML
		assert.False(t, bytes.Contains(html, []byte("<script")), importPath)
		assert.True(t, bytes.Contains(html, []byte("&lt;")), importPath)
	}
}

func TestEscapingOfSource(t *testing.T) {
	goroot := fake(t, map[string]string{
		"evil/evil.go": "// Package evil is <script>alert(1)</script>.\n//\n// # <b>Heading</b>\n//\n// More.\npackage evil\n\n" +
			"// A is <i>x</i>.\nconst A = \"<script>\" // <script>\n\n// F <u>f</u>.\nfunc F(s struct{ X int `json:\"<script>\"` }) {}\n",
		"evil/evil_test.go": "package evil_test\n\nimport \"fmt\"\n\n// <em>doc</em>\nfunc ExampleF() {\n\tfmt.Println(\"<script>\") // <script>\n\t// Output: <script>\n}\n",
	})
	library, err := page.Open(goroot)
	require.NoError(t, err)
	defer library.Close()
	html := string(render(t, library, "evil").HTML)
	for _, tag := range []string{"<script", "<b>", "<i>", "<u>", "<em>"} {
		assert.NotContains(t, html, tag)
	}
	assert.Contains(t, html, "&lt;em&gt;doc")
	assert.Contains(t, html, "<pre>&lt;script&gt;\n</pre>")
}

func TestNotFound(t *testing.T) {
	goroot := fake(t, map[string]string{
		"good/good.go":               "package good\n",
		"good/internal/x/x.go":       "package x\n",
		"good/testdata/x/x.go":       "package x\n",
		"internal/y/y.go":            "package y\n",
		"vendor/z/z.go":              "package z\n",
		"cmd/tool/tool.go":           "package tool\n",
		"tests/only_test.go":         "package tests\n",
		"elsewhere/e.go":             "//go:build never\n\npackage elsewhere\n",
		"dir/below/below.go":         "package below\n",
		"../outside/outside.go":      "package outside\n",
		"../outside/deep/go/deep.go": "package deep\n",
	})
	if err := os.Symlink(filepath.Join(goroot, "outside"), filepath.Join(goroot, "src", "linked")); err != nil {
		t.Log("no symbolic links here:", err)
	}
	library, err := page.Open(goroot)
	require.NoError(t, err)
	defer library.Close()
	render(t, library, "good")
	for _, importPath := range []string{
		"", ".", "..", "/", "good/", "/good", "./good", "good/.", "good/..", "good//", "good/good.go",
		"../outside", "good/../../outside", "good/../good", "..%2foutside", `..\outside`, `good\internal\x`,
		filepath.ToSlash(filepath.Join(goroot, "src", "good")), "file:///etc", "c:/windows", "good\x00", "good\n", "GOOD", "Good",
		"internal/y", "good/internal/x", "good/testdata/x", "vendor/z", "cmd/tool", "cmd", "linked", "linked/deep/go",
		"tests", "elsewhere", "dir", "nothing", "nothing/at/all", strings.Repeat("a/", 5000) + "a", strings.Repeat("a", 5000),
	} {
		_, err := library.Package(t.Context(), importPath)
		assert.ErrorIs(t, err, page.ErrNotFound, "%q", importPath)
	}
	paths, err := library.Packages()
	require.NoError(t, err)
	assert.Equal(t, []string{"builtin", "dir/below", "good"}, paths)
}

func TestIndex(t *testing.T) {
	got, err := open(t).Index()
	require.NoError(t, err)
	assert.Empty(t, got.ImportPath)
	assert.Empty(t, got.Imports)
	html := string(got.HTML)
	assert.Contains(t, html, `<a href="/net/http">http</a>`)
	assert.Contains(t, html, `<a href="/bufio">bufio</a>`)
	assert.Contains(t, html, `<span class="muted">archive</span>`)
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	_, err := page.Open(t.TempDir())
	assert.ErrorContains(t, err, "src/builtin/builtin.go is missing")

	// Neither $GOROOT nor a go command: only where the program was built is
	// left, and that may be there.
	t.Setenv("GOROOT", filepath.Join(t.TempDir(), "gone"))
	t.Setenv("PATH", t.TempDir())
	if library, err := page.Open(""); err == nil {
		assert.NoError(t, library.Close())
	} else {
		assert.ErrorContains(t, err, "set GOROOT")
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := open(t).Package(ctx, "net/http")
	assert.ErrorIs(t, err, context.Canceled)
}

func TestBrokenSource(t *testing.T) {
	library, err := page.Open(fake(t, map[string]string{"broken/b.go": "package broken\n\nfunc (\n"}))
	require.NoError(t, err)
	defer library.Close()
	_, err = library.Package(t.Context(), "broken")
	assert.ErrorContains(t, err, "broken")
	assert.NotErrorIs(t, err, page.ErrNotFound)
}

// The cost of a page is what the example shows a cache against.
func TestCost(t *testing.T) {
	library := open(t)
	start := time.Now()
	first := render(t, library, "net/http")
	assert.Greater(t, time.Since(start), 10*time.Millisecond)
	assert.True(t, bytes.Equal(first.HTML, render(t, library, "net/http").HTML), "two renderings differ")
}

// fake lays out a GOROOT that has the files in its src directory.
func fake(t *testing.T, files map[string]string) string {
	t.Helper()
	goroot := t.TempDir()
	files["builtin/builtin.go"] = "package builtin\n"
	for name, text := range files {
		name = filepath.Join(goroot, "src", filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
	return goroot
}

func BenchmarkPackage(b *testing.B) {
	library := open(b)
	for _, importPath := range []string{"unicode/utf8", "bufio", "net/http"} {
		b.Run(strings.ReplaceAll(importPath, "/", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.SetBytes(int64(len(render(b, library, importPath).HTML)))
			}
		})
	}
}
