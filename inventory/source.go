package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"
)

// sources are the files of a configuration: what was parsed, and what
// functions read. Nothing outside the directory is reachable through it.
type sources struct {
	root   *os.Root
	dir    string
	files  map[string][]byte // configuration files by name, for parsing and snippets
	read   map[string][]byte // files read by functions, by clean path
	exists map[string]bool   // what fileexists answered
	// outside names entries of files that are not the configuration's own:
	// files and values of the command line. Their values count, not their names.
	outside map[string]bool
	total   int
}

func openSources(dir string) (*sources, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &sources{root: root, dir: dir, files: map[string][]byte{}, read: map[string][]byte{}, exists: map[string]bool{}, outside: map[string]bool{}}, nil
}

var errTooMuch = fmt.Errorf("the files of the configuration together exceed %d MiB or %d files", maxTotalBytes>>20, maxFiles)

// bytes reads a regular file below the directory within the bounds. Links
// that lead out of the directory are refused by os.Root.
func (s *sources) bytes(name string) ([]byte, error) {
	info, err := s.root.Stat(name)
	if err != nil {
		return nil, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := s.root.Open(name)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, reason(err)
	}
	if len(src) > maxFileBytes {
		return nil, fmt.Errorf("it is larger than %d MiB", maxFileBytes>>20)
	}
	if s.total += len(src); s.total > maxTotalBytes || len(s.files)+len(s.read) >= maxFiles {
		return nil, errTooMuch
	}
	return src, nil
}

// reason drops the operation and path of an fs.PathError: the diagnostic
// names the path as the user wrote it.
func reason(err error) error {
	var pe *fs.PathError
	if !errors.As(err, &pe) {
		return err
	}
	switch {
	case errors.Is(pe.Err, fs.ErrNotExist):
		return errors.New("it does not exist")
	case strings.Contains(pe.Err.Error(), "escapes"):
		return errors.New("it lies, or its link leads, outside the configuration's directory")
	}
	return pe.Err
}

// list names the configuration's files in alphabetical order.
func (s *sources) list() ([]string, error) {
	dir, err := s.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		hidden := strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasSuffix(name, "~")
		if !hidden && (strings.HasSuffix(name, ".hcl") || strings.HasSuffix(name, ".hcl.json")) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// checkText refuses what is not UTF-8 text. The range is the first bad byte.
func checkText(src []byte, file string) *Diagnostic {
	fail := func(at int, detail string) *Diagnostic {
		line := 1 + bytes.Count(src[:at], []byte("\n"))
		col := at - bytes.LastIndexByte(src[:at], '\n')
		p := hcl.Pos{Line: line, Column: col, Byte: at}
		return &Diagnostic{Severity: SeverityError, Summary: "Not a text file", Detail: detail, Source: span(hcl.Range{Filename: file, Start: p, End: p})}
	}
	if bytes.HasPrefix(src, []byte{0xff, 0xfe}) || bytes.HasPrefix(src, []byte{0xfe, 0xff}) {
		return fail(0, "The file is UTF-16. Save it as UTF-8.")
	}
	if i := bytes.IndexByte(src, 0); i >= 0 {
		return fail(i, "The file holds a NUL byte. Save it as UTF-8 text.")
	}
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			return fail(i, "The file holds a byte that is not UTF-8. Save it as UTF-8.")
		}
		i += n
	}
	return nil
}

// parse turns one file into a body, after its bounds were checked.
func parse(src []byte, name string) (hcl.Body, []Diagnostic) {
	if d := checkText(src, name); d != nil {
		return nil, []Diagnostic{*d}
	}
	isJSON := strings.HasSuffix(name, ".json")
	if isJSON {
		src = bytes.TrimPrefix(src, bom)
	}
	scan := scanNative
	if isJSON {
		scan = scanJSON
	}
	if e := scan(src, name); e != nil {
		return nil, []Diagnostic{e.diagnostic()}
	}
	var f *hcl.File
	var found hcl.Diagnostics
	if isJSON {
		f, found = hcljson.Parse(src, name)
	} else {
		f, found = hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	}
	var out []Diagnostic
	for _, d := range found {
		out = append(out, fromHCL(d))
	}
	if f == nil {
		return nil, out
	}
	return f.Body, out
}

var bom = []byte{0xef, 0xbb, 0xbf}

func unquoteJSON(quoted []byte) (string, bool) {
	var s string
	err := json.Unmarshal(quoted, &s)
	return s, err == nil
}
