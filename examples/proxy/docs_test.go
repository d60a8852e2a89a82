package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// page is where the tests of this package are explained.
var page = filepath.Join("..", "..", "docs", "conformance.md")

var testName = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")

// Every test that the page names exists, and every conformance test is named on
// it.
func TestConformancePageIsTrue(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	var named []string
	for _, match := range testName.FindAllStringSubmatch(string(text), -1) {
		named = append(named, match[1])
	}
	require.NotEmpty(t, named)

	var tests, conformance []string
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range tree.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") {
				continue
			}
			tests = append(tests, f.Name.Name)
			if strings.HasPrefix(f.Name.Name, "TestConformance_") {
				conformance = append(conformance, f.Name.Name)
			}
		}
	}
	for _, name := range named {
		assert.True(t, slices.Contains(tests, name), "%s names %s, which does not exist", page, name)
	}
	for _, name := range conformance {
		assert.True(t, slices.Contains(named, name), "%s does not name %s", page, name)
	}
}
