package page

import (
	"bytes"
	_ "embed" // for the template
	"fmt"
	"go/doc"
	"go/doc/comment"
	"html/template"
	"path"
	"strings"
)

//go:embed page.html
var pageHTML string

var pages = template.Must(template.New("").Parse(pageHTML))

// A frame is what both kinds of page have around them.
type frame struct {
	Title    string
	Synopsis string
	Version  string
	Platform string
	Crumbs   []link
}

type link struct {
	Text string
	Href string // "" if it leads nowhere
}

type indexView struct {
	frame
	Count  int
	Groups []group
}

// A group is a package and those below it, or a directory that is no package
// itself.
type group struct {
	Head    link
	Members []link
}

type packageView struct {
	frame
	Path, Name string
	Overview   template.HTML
	Examples   []example
	AllExample []exampleLink
	Consts     []value
	Vars       []value
	Funcs      []function
	Types      []typ
	Imports    []link
	Subdirs    []link
	Files      []string
}

type value struct {
	Code template.HTML
	Doc  template.HTML
}

type function struct {
	Name, ID   string
	Signature  string // on one line, for the index
	Code       template.HTML
	Doc        template.HTML
	Deprecated bool
	Examples   []example
}

type typ struct {
	Name       string
	Code       template.HTML
	Doc        template.HTML
	Deprecated bool
	Examples   []example
	Consts     []value
	Vars       []value
	Funcs      []function
	Methods    []function
}

type example struct {
	ID     string
	Title  string
	Doc    template.HTML
	Code   template.HTML
	Output string
}

type exampleLink struct {
	ID   string
	Text string
}

func (l *Library) frame(title string) frame {
	return frame{Title: title, Version: l.version, Platform: l.build.GOOS + "/" + l.build.GOARCH}
}

// renderIndex lays the list of packages out.
func (l *Library) renderIndex(paths []string) ([]byte, error) {
	view := indexView{frame: l.frame("Standard library"), Count: len(paths)}
	for _, importPath := range paths {
		top, rest, below := strings.Cut(importPath, "/")
		if n := len(view.Groups); n == 0 || view.Groups[n-1].Head.Text != top {
			view.Groups = append(view.Groups, group{Head: link{Text: top}})
		}
		last := &view.Groups[len(view.Groups)-1]
		if below {
			last.Members = append(last.Members, link{rest, "/" + importPath})
		} else {
			last.Head.Href = "/" + importPath
		}
	}
	return execute("index", view)
}

// renderer writes one package.
type renderer struct {
	pkg     *source
	symbols map[string]bool // names that have a place on the page
	index   []exampleLink   // every example so far
}

// renderPackage lays a package out.
func (l *Library) renderPackage(pkg *source) ([]byte, error) {
	r := &renderer{pkg: pkg, symbols: make(map[string]bool)}
	r.learn()
	view := packageView{
		frame:    l.frame(pkg.Name + " package - " + pkg.ImportPath),
		Path:     pkg.ImportPath,
		Name:     pkg.Name,
		Overview: r.comment(pkg.Doc, 3),
		Examples: r.examples("", pkg.Examples),
		Consts:   r.values(pkg.Consts),
		Vars:     r.values(pkg.Vars),
		Funcs:    r.functions("", pkg.Funcs),
		Files:    pkg.files,
	}
	for _, t := range pkg.Types {
		view.Types = append(view.Types, r.typ(t))
	}
	for _, importPath := range pkg.imports {
		entry := link{Text: importPath}
		if public(importPath) {
			entry.Href = "/" + importPath
		}
		view.Imports = append(view.Imports, entry)
	}
	for _, importPath := range pkg.subdirs {
		view.Subdirs = append(view.Subdirs, link{strings.TrimPrefix(importPath, pkg.ImportPath+"/"), "/" + importPath})
	}
	for dir := path.Dir(pkg.ImportPath); dir != "."; dir = path.Dir(dir) {
		crumb := link{Text: path.Base(dir)}
		if l.buildable(dir) {
			crumb.Href = "/" + dir
		}
		view.Crumbs = append([]link{crumb}, view.Crumbs...)
	}
	view.frame.Synopsis = pkg.Synopsis(pkg.Doc)
	view.AllExample = r.index
	return execute("package", view)
}

func execute(name string, view any) ([]byte, error) {
	var out bytes.Buffer
	if err := pages.ExecuteTemplate(&out, name, view); err != nil {
		return nil, fmt.Errorf("page: render %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// learn collects the names that are documented on the page.
func (r *renderer) learn() {
	values := func(list []*doc.Value) {
		for _, v := range list {
			for _, name := range v.Names {
				r.symbols[name] = true
			}
		}
	}
	funcs := func(list []*doc.Func) {
		for _, f := range list {
			r.symbols[f.Name] = true
		}
	}
	values(r.pkg.Consts)
	values(r.pkg.Vars)
	funcs(r.pkg.Funcs)
	for _, t := range r.pkg.Types {
		r.symbols[t.Name] = true
		values(t.Consts)
		values(t.Vars)
		funcs(t.Funcs)
	}
}

// comment writes a doc comment as HTML. Headings in it begin at the level.
func (r *renderer) comment(text string, level int) template.HTML {
	if text == "" {
		return ""
	}
	p := r.pkg.Printer()
	p.HeadingLevel = level
	p.DocLinkURL = func(to *comment.DocLink) string {
		switch {
		case to.ImportPath == "" && to.Name == "": // a package that speaks of itself
			return "#main"
		case to.ImportPath != "" && !public(to.ImportPath):
			return to.DefaultURL("https://pkg.go.dev")
		}
		return to.DefaultURL("")
	}
	seen := make(map[string]bool)
	p.HeadingID = func(h *comment.Heading) string {
		// Only the overview's headings are linked to: two functions may well
		// have the same, and so have some overviews.
		id := h.DefaultID()
		if level > 3 || seen[id] {
			return ""
		}
		seen[id] = true
		return id
	}
	return template.HTML(p.HTML(r.pkg.Parser().Parse(text)))
}

func (r *renderer) values(list []*doc.Value) []value {
	var out []value
	for _, v := range list {
		out = append(out, value{Code: r.listing(v.Decl), Doc: r.comment(v.Doc, 4)})
	}
	return out
}

// functions lays functions out, or the methods of a type.
func (r *renderer) functions(receiver string, list []*doc.Func) []function {
	var out []function
	for _, f := range list {
		id := f.Name
		if receiver != "" {
			id = receiver + "." + f.Name
		}
		out = append(out, function{
			Name:       f.Name,
			ID:         id,
			Signature:  r.signature(f.Decl),
			Code:       r.listing(f.Decl),
			Doc:        r.comment(f.Doc, 5),
			Deprecated: deprecated(f.Doc),
			Examples:   r.examples(id, f.Examples),
		})
	}
	return out
}

func (r *renderer) typ(t *doc.Type) typ {
	return typ{
		Name:       t.Name,
		Code:       r.listing(t.Decl),
		Doc:        r.comment(t.Doc, 4),
		Deprecated: deprecated(t.Doc),
		Examples:   r.examples(t.Name, t.Examples),
		Consts:     r.values(t.Consts),
		Vars:       r.values(t.Vars),
		Funcs:      r.functions("", t.Funcs),
		Methods:    r.functions(t.Name, t.Methods),
	}
}

// examples lays the examples of a symbol out, or of the package if it is "".
func (r *renderer) examples(symbol string, list []*doc.Example) []example {
	var out []example
	for _, ex := range list {
		title, id, text := "Example", "example-"+symbol, symbol
		if symbol == "" {
			id, text = "example-package", "Package"
		}
		if ex.Suffix != "" {
			title += " (" + ex.Suffix + ")"
			text += " (" + ex.Suffix + ")"
			id += "-" + strings.ReplaceAll(ex.Suffix, " ", "-")
		}
		out = append(out, example{
			ID:     id,
			Title:  title,
			Doc:    r.comment(ex.Doc, 6),
			Code:   r.program(ex),
			Output: ex.Output,
		})
		r.index = append(r.index, exampleLink{ID: id, Text: text})
	}
	return out
}

// deprecated reports whether a doc comment has a paragraph that says so.
func deprecated(text string) bool {
	return strings.HasPrefix(text, "Deprecated: ") || strings.Contains(text, "\n\nDeprecated: ")
}
