// Package page renders the documentation of the Go standard library as HTML,
// from the source on the machine it runs on.
//
// Nothing is kept between two calls: every page is parsed and laid out from
// scratch, which costs milliseconds for a small package and tens of them for a
// large one. That is on purpose. The package exists to be the expensive
// handler behind a cache, in the example beside it and in benchmarks.
package page

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// ErrNotFound says that there is no such package among those a Library
// documents. Every path that is not plainly the import path of a public
// package of the standard library gets it, whatever lies there on disk.
var ErrNotFound = errors.New("page: no such package")

// A Page is one rendered document and what it was made from.
type Page struct {
	// ImportPath is the package documented, "" for the index.
	ImportPath string

	// Imports has every package that the package's files, tests apart, import
	// directly on this platform, sorted. Internal and vendored ones are among
	// them, although they have no page of their own.
	Imports []string

	// HTML is the whole document. It needs no other resource.
	HTML []byte
}

// A Library renders the packages below one GOROOT. It is made by [Open] and
// safe for concurrent use.
type Library struct {
	src     *os.Root // GOROOT/src: nothing outside of it can be opened through it, by symbolic links neither
	files   fs.FS    // the same, for reading
	build   build.Context
	version string
}

// Open returns the library of the Go installation at goroot. If goroot is
// empty, it is looked for: $GOROOT, then what the go command says, then where
// this program was built.
func Open(goroot string) (*Library, error) {
	goroot, err := locate(goroot)
	if err != nil {
		return nil, err
	}
	src, err := os.OpenRoot(filepath.Join(goroot, "src"))
	if err != nil {
		return nil, fmt.Errorf("page: open the standard library: %w", err)
	}
	l := &Library{src: src, files: src.FS(), version: version(goroot)}
	l.build = build.Context{
		GOOS:        build.Default.GOOS,
		GOARCH:      build.Default.GOARCH,
		Compiler:    build.Default.Compiler,
		ToolTags:    build.Default.ToolTags,
		ReleaseTags: build.Default.ReleaseTags,
		// The pages are the same whether there is a C compiler or not.
		CgoEnabled: false,

		JoinPath:    path.Join,
		IsAbsPath:   path.IsAbs,
		HasSubdir:   func(string, string) (string, bool) { return "", false },
		IsDir:       func(name string) bool { info, err := fs.Stat(l.files, name); return err == nil && info.IsDir() },
		ReadDir:     l.readDir,
		OpenFile:    func(name string) (io.ReadCloser, error) { return l.files.Open(name) },
		UseAllFiles: false,
	}
	return l, nil
}

// Close lets go of the source directory. Calls after it fail.
func (l *Library) Close() error { return l.src.Close() }

// Version is the release of Go that the library documents, such as "go1.25.0".
func (l *Library) Version() string { return l.version }

// locate finds a GOROOT that has source in it.
func locate(goroot string) (string, error) {
	if goroot != "" {
		if !hasSource(goroot) {
			return "", fmt.Errorf("page: %q has no Go source: src/builtin/builtin.go is missing", goroot)
		}
		return goroot, nil
	}
	if env := os.Getenv("GOROOT"); hasSource(env) {
		return env, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output(); err == nil {
		if said := strings.TrimSpace(string(out)); hasSource(said) {
			return said, nil
		}
	}
	if hasSource(build.Default.GOROOT) {
		return build.Default.GOROOT, nil
	}
	return "", errors.New("page: the source of the standard library was not found: set GOROOT to a Go installation that has src/builtin/builtin.go, or put the go command into PATH")
}

func hasSource(goroot string) bool {
	if goroot == "" {
		return false
	}
	info, err := os.Stat(filepath.Join(goroot, "src", "builtin", "builtin.go"))
	return err == nil && info.Mode().IsRegular()
}

// version reads GOROOT/VERSION, whose first line is the release. A checkout of
// Go itself has no such file.
func version(goroot string) string {
	text, err := os.ReadFile(filepath.Join(goroot, "VERSION"))
	if err != nil {
		return runtime.Version()
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// element is what one part of an import path of the standard library looks
// like. Capitals are left out on purpose: where the file system ignores case,
// one package would have several pages.
var element = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

// public reports whether importPath can be that of a package which programs
// may import.
func public(importPath string) bool {
	for i, part := range strings.Split(importPath, "/") {
		switch {
		case !element.MatchString(part),
			part == "internal", part == "vendor", part == "testdata",
			part == "cmd" && i == 0:
			return false
		}
	}
	return true
}

// Packages returns the import paths of all packages that have a page, sorted.
// Internal and vendored packages, test data and commands have none.
func (l *Library) Packages() ([]string, error) {
	var found []string
	err := fs.WalkDir(l.files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !entry.IsDir() || name == ".":
			return nil
		case !public(name):
			return fs.SkipDir
		}
		if l.buildable(name) {
			found = append(found, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("page: list packages: %w", err)
	}
	slices.Sort(found)
	return found, nil
}

// buildable reports whether the directory has a Go file for this platform.
func (l *Library) buildable(dir string) bool {
	entries, err := fs.ReadDir(l.files, dir)
	if err != nil {
		return false
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		if match, err := l.build.MatchFile(dir, name); err == nil && match {
			return true
		}
	}
	return false
}

// Index renders the list of all packages.
func (l *Library) Index() (Page, error) {
	paths, err := l.Packages()
	if err != nil {
		return Page{}, err
	}
	html, err := l.renderIndex(paths)
	if err != nil {
		return Page{}, err
	}
	return Page{HTML: html}, nil
}

// Package renders the documentation of one package. The error is
// [ErrNotFound] if there is no such package, and that of ctx if it was
// cancelled in the middle.
func (l *Library) Package(ctx context.Context, importPath string) (Page, error) {
	if !public(importPath) {
		return Page{}, ErrNotFound
	}
	pkg, err := l.load(ctx, importPath)
	if err != nil {
		return Page{}, err
	}
	html, err := l.renderPackage(pkg)
	if err != nil {
		return Page{}, err
	}
	return Page{ImportPath: importPath, Imports: pkg.imports, HTML: html}, nil
}

// source is a package as it was read: what go/doc made of it, and where each
// declaration's names lead.
type source struct {
	*doc.Package
	fset    *token.FileSet
	imports []string
	files   []string                     // names of the Go files that are documented
	subdirs []string                     // import paths of the packages below it
	names   map[string]map[string]string // file name -> package name -> import path
}

// load parses a package.
func (l *Library) load(ctx context.Context, importPath string) (*source, error) {
	listed, err := l.build.ImportDir(importPath, 0)
	var noGo *build.NoGoError
	switch {
	case errors.As(err, &noGo), errors.Is(err, fs.ErrNotExist), err != nil && !l.build.IsDir(importPath):
		return nil, ErrNotFound
	case err != nil:
		return nil, fmt.Errorf("page: list the files of %s: %w", importPath, err)
	case len(listed.GoFiles) == 0:
		return nil, ErrNotFound // nothing but tests
	}

	pkg := &source{
		fset:    token.NewFileSet(),
		imports: listed.Imports,
		files:   listed.GoFiles,
		names:   make(map[string]map[string]string),
	}
	var parsed []*ast.File
	for _, name := range slices.Concat(listed.GoFiles, listed.TestGoFiles, listed.XTestGoFiles) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		full := path.Join(importPath, name)
		text, err := fs.ReadFile(l.files, full)
		if err != nil {
			return nil, fmt.Errorf("page: read: %w", err)
		}
		if strings.HasSuffix(name, "_test.go") && !bytes.Contains(text, []byte("\nfunc Example")) {
			continue
		}
		file, err := parser.ParseFile(pkg.fset, full, text, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("page: parse: %w", err)
		}
		parsed = append(parsed, file)
		pkg.names[full] = importNames(file)
	}

	var mode doc.Mode
	if importPath == "builtin" {
		mode = doc.AllDecls // its subject is names that begin with a small letter
	}
	pkg.Package, err = doc.NewFromFiles(pkg.fset, parsed, importPath, mode)
	if err != nil {
		return nil, fmt.Errorf("page: document %s: %w", importPath, err)
	}
	pkg.subdirs, err = l.below(importPath)
	if err != nil {
		return nil, err
	}
	return pkg, nil
}

// below lists the packages in the directories under importPath. Only their
// names are read: a page that showed more of them would have been made from
// them, too.
func (l *Library) below(importPath string) ([]string, error) {
	var found []string
	err := fs.WalkDir(l.files, importPath, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !entry.IsDir() || name == importPath:
			return nil
		case !public(name):
			return fs.SkipDir
		}
		if l.buildable(name) {
			found = append(found, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("page: list what is below %s: %w", importPath, err)
	}
	return found, nil
}

// readDir is io/fs's ReadDir in the form go/build wants.
func (l *Library) readDir(dir string) ([]fs.FileInfo, error) {
	entries, err := fs.ReadDir(l.files, dir)
	if err != nil {
		return nil, err
	}
	infos := make([]fs.FileInfo, 0, len(entries))
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// majorVersion is the last element of paths like math/rand/v2, which is not
// the package's name.
var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// importNames returns the names by which a file knows the packages it imports.
func importNames(file *ast.File) map[string]string {
	names := make(map[string]string, len(file.Imports))
	for _, spec := range file.Imports {
		importPath := strings.Trim(spec.Path.Value, "\"`")
		name := path.Base(importPath)
		if majorVersion.MatchString(name) {
			name = path.Base(path.Dir(importPath))
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = importPath
	}
	return names
}
