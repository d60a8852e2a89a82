package page

import (
	"bytes"
	"go/ast"
	"go/doc"
	"go/printer"
	"go/scanner"
	"go/token"
	"html/template"
	"regexp"
	"strings"
)

// layout is how declarations and examples are printed.
var layout = printer.Config{Mode: printer.UseSpaces, Tabwidth: 4}

// place is where a name in a listing leads, and what leads to it.
type place struct {
	href string // "" if it is no link
	id   string // "" if nothing links to it
}

// listing prints a declaration as HTML, its names linked to where they are
// documented, its constants, variables and fields made targets of links.
func (r *renderer) listing(decl ast.Decl) template.HTML {
	var text bytes.Buffer
	if err := layout.Fprint(&text, r.pkg.fset, decl); err != nil {
		return template.HTML(template.HTMLEscapeString(err.Error()))
	}
	idents, places := r.places(decl)
	return highlight(text.Bytes(), idents, places)
}

// signature prints the head of a function on a single line, without markup.
func (r *renderer) signature(decl *ast.FuncDecl) string {
	var text bytes.Buffer
	if err := layout.Fprint(&text, r.pkg.fset, decl); err != nil {
		return "func " + decl.Name.Name
	}
	line := strings.Join(strings.Fields(text.String()), " ")
	return strings.NewReplacer("( ", "(", ", )", ")").Replace(line)
}

// outputComment is the comment at the end of an example; what it says is shown
// on its own.
var outputComment = regexp.MustCompile(`(?i)^//[[:space:]]*(unordered )?output:`)

// program prints the code of an example: the statements of its body, or the
// whole file if it needs declarations of its own.
func (r *renderer) program(ex *doc.Example) template.HTML {
	var comments []*ast.CommentGroup
	for _, group := range ex.Comments {
		if len(group.List) > 0 && outputComment.MatchString(group.List[0].Text) {
			continue
		}
		comments = append(comments, group)
	}
	var text bytes.Buffer
	if err := layout.Fprint(&text, r.pkg.fset, &printer.CommentedNode{Node: ex.Code, Comments: comments}); err != nil {
		return template.HTML(template.HTMLEscapeString(err.Error()))
	}
	code := text.String()
	if _, block := ex.Code.(*ast.BlockStmt); block {
		code = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(code), "{"), "}")
		code = strings.ReplaceAll(code, "\n    ", "\n")
	}
	code = strings.TrimSpace(code) + "\n"
	idents, places := r.places(ex.Code)
	return highlight([]byte(code), idents, places)
}

// places finds out where the names in a tree lead. The names come in the order
// in which they are printed.
func (r *renderer) places(node ast.Node) ([]*ast.Ident, map[*ast.Ident]place) {
	var (
		idents  []*ast.Ident
		places  = make(map[*ast.Ident]place)
		decided = make(map[*ast.Ident]bool) // names that are declared or selected here, not referred to
		local   = make(map[string]bool)     // type parameters and variables, which hide what is outside
		imports = r.pkg.names[r.pkg.fset.Position(node.Pos()).Filename]
		_, decl = node.(ast.Decl)
	)
	declare := func(names ...*ast.Ident) {
		for _, name := range names {
			decided[name] = true
		}
	}
	hide := func(list *ast.FieldList) {
		if list == nil {
			return
		}
		for _, field := range list.List {
			for _, name := range field.Names {
				local[name.Name] = true
			}
		}
	}

	// What is hidden must be known before anything is linked, because an
	// example may use a name long before it ends.
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			hide(n.Type.TypeParams)
			declare(n.Name)
			if n.Recv != nil {
				for _, field := range n.Recv.List {
					for _, param := range typeArguments(field.Type) {
						local[param.Name] = true
					}
				}
			}
		case *ast.TypeSpec:
			hide(n.TypeParams)
			declare(n.Name)
			if decl {
				r.declareMembers(n, declare, places)
			}
		case *ast.ValueSpec:
			declare(n.Names...)
			for _, name := range n.Names {
				if decl && name.Name != "_" {
					places[name] = place{id: name.Name}
				}
			}
		case *ast.Field:
			declare(n.Names...)
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, expr := range n.Lhs {
					if name, ok := expr.(*ast.Ident); ok {
						local[name.Name] = true
					}
				}
			}
		case *ast.RangeStmt:
			for _, expr := range []ast.Expr{n.Key, n.Value} {
				if name, ok := expr.(*ast.Ident); ok {
					local[name.Name] = true
				}
			}
		case *ast.KeyValueExpr:
			if name, ok := n.Key.(*ast.Ident); ok {
				declare(name)
			}
		}
		return true
	})

	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			decided[n.Sel] = true
			qualifier, ok := n.X.(*ast.Ident)
			if !ok || local[qualifier.Name] {
				break
			}
			importPath := imports[qualifier.Name]
			if importPath == "" {
				break
			}
			decided[qualifier] = true
			if public(importPath) {
				places[qualifier] = place{href: "/" + importPath}
				places[n.Sel] = place{href: "/" + importPath + "#" + n.Sel.Name}
			}
		case *ast.Ident:
			idents = append(idents, n)
			switch {
			case decided[n] || local[n.Name] || !decl:
			case r.symbols[n.Name]:
				places[n] = place{href: "#" + n.Name}
			case doc.IsPredeclared(n.Name):
				places[n] = place{href: "/builtin#" + n.Name}
			}
		}
		return true
	})
	return idents, places
}

// typeArguments returns the names in the brackets of a receiver like *List[T].
func typeArguments(expr ast.Expr) []*ast.Ident {
	switch expr := expr.(type) {
	case *ast.StarExpr:
		return typeArguments(expr.X)
	case *ast.IndexExpr:
		if name, ok := expr.Index.(*ast.Ident); ok {
			return []*ast.Ident{name}
		}
	case *ast.IndexListExpr:
		var names []*ast.Ident
		for _, index := range expr.Indices {
			if name, ok := index.(*ast.Ident); ok {
				names = append(names, name)
			}
		}
		return names
	}
	return nil
}

// declareMembers makes the fields of a struct and the methods of an interface
// targets: [http.Server.Handler] in a comment leads to one.
func (r *renderer) declareMembers(spec *ast.TypeSpec, declare func(...*ast.Ident), places map[*ast.Ident]place) {
	var members *ast.FieldList
	switch typ := spec.Type.(type) {
	case *ast.StructType:
		members = typ.Fields
	case *ast.InterfaceType:
		members = typ.Methods
	}
	if members == nil {
		return
	}
	for _, field := range members.List {
		declare(field.Names...)
		for _, name := range field.Names {
			if name.Name != "_" {
				places[name] = place{id: spec.Name.Name + "." + name.Name}
			}
		}
	}
}

// highlight writes Go source as HTML. Comments and strings are marked; the
// identifiers get their places, if those of the tree and of the text agree.
func highlight(text []byte, idents []*ast.Ident, places map[*ast.Ident]place) template.HTML {
	var (
		out  bytes.Buffer
		scan scanner.Scanner
		fset = token.NewFileSet()
		file = fset.AddFile("", -1, len(text))
		done int // everything before it is written
	)
	escape := func(s []byte) { template.HTMLEscape(&out, s) }
	span := func(class string, s []byte) {
		out.WriteString(`<span class="` + class + `">`)
		escape(s)
		out.WriteString(`</span>`)
	}
	scan.Init(file, text, func(token.Position, string) {}, scanner.ScanComments)
	for {
		pos, tok, literal := scan.Scan()
		if tok == token.EOF {
			break
		}
		if tok != token.COMMENT && tok != token.STRING && tok != token.IDENT {
			continue
		}
		start := file.Offset(pos)
		// The scanner leaves carriage returns out of what it returns, so the
		// end is that of the text, which the printer writes without any.
		end := min(start+len(literal), len(text))
		escape(text[done:start])
		done = end
		switch tok {
		case token.COMMENT:
			span("comment", text[start:end])
		case token.STRING:
			span("string", text[start:end])
		case token.IDENT:
			var here place
			if len(idents) > 0 && idents[0].Name == literal {
				here = places[idents[0]]
				idents = idents[1:]
			}
			switch {
			case here.href != "":
				out.WriteString(`<a href="` + template.HTMLEscapeString(here.href) + `">`)
				escape(text[start:end])
				out.WriteString(`</a>`)
			case here.id != "":
				out.WriteString(`<span id="` + template.HTMLEscapeString(here.id) + `">`)
				escape(text[start:end])
				out.WriteString(`</span>`)
			default:
				escape(text[start:end])
			}
		}
	}
	escape(text[done:])
	return template.HTML(out.String())
}
