// Package conffile edits libvirtd.conf, qemu.conf and the other files of libvirt's
// configuration format without losing a byte that it was not asked to change, and
// knows which keys those files have. It is pure: bytes in, bytes out.
package conffile

import (
	"bytes"
	"fmt"
	"sort"
)

// MaxSize is the largest file, in bytes, that Parse accepts. libvirt itself takes
// 10 MiB; a configuration of more than 1 MiB was not written by a person.
const MaxSize = 1 << 20

// A File is a parsed configuration file. The zero File is an empty file.
// A File must not be used by several goroutines while one of them changes it.
type File struct {
	src      []byte
	newlines []int // offsets of '\n', which is what libvirt counts lines by
	stmts    []statement
	index    map[string][]int // key to its statements, in the order of the file
}

// A statement is one assignment or one comment that stands on its own.
type statement struct {
	key            string // "" for a comment
	start          int    // first byte of the key, or the '#'
	valPos, valEnd int
	value          Value
	end            int // after the value and its trailing comment; an EOL, ';' or the end follows
}

// An Assignment is one active `key = value` of a file.
type Assignment struct {
	Line    int // line of the key, from 1
	EndLine int // line on which the value ends
	Value   Value
}

// A SyntaxError says why libvirt would refuse a file, or why this package does.
type SyntaxError struct {
	Line    int // from 1
	Problem string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Problem) }

// Parse reads a file by the grammar of libvirt's own parser (src/util/virconf.c).
// What libvirt refuses is refused with a *SyntaxError, including a byte order mark,
// a comment inside a list and a file of nothing but blank lines. Beyond libvirt,
// Parse refuses files over MaxSize, integers that do not fit 64 bits and lists
// nested more than 32 deep. It keeps its own copy of src.
func Parse(src []byte) (*File, error) {
	if len(src) > MaxSize {
		return nil, fmt.Errorf("the file has %d bytes, more than the %d that a configuration file may have", len(src), MaxSize)
	}
	f := &File{src: bytes.Clone(src)}
	for i, c := range f.src {
		if c == '\n' {
			f.newlines = append(f.newlines, i)
		}
	}
	if i := bytes.IndexByte(f.src, 0); i >= 0 {
		return nil, &SyntaxError{f.line(i), "a NUL byte: this is not a text file"}
	}
	if bytes.HasPrefix(f.src, []byte("\xef\xbb\xbf")) {
		return nil, &SyntaxError{1, "a byte order mark, which libvirt refuses: save the file without it"}
	}
	p := parser{src: f.src, stmts: make([]statement, 0, len(f.newlines)+1)}
	if err := p.file(); err != nil {
		return nil, &SyntaxError{f.line(p.pos), err.Error()}
	}
	f.stmts, f.index = p.stmts, map[string][]int{}
	for i, s := range f.stmts {
		if s.key != "" {
			f.index[s.key] = append(f.index[s.key], i)
		}
	}
	return f, nil
}

// Bytes gives the file as it is now; what was parsed and not changed, byte for byte.
func (f *File) Bytes() []byte { return bytes.Clone(f.src) }

// Get gives the value that libvirt uses for key: its first assignment.
func (f *File) Get(key string) (Value, bool) {
	if active := f.index[key]; len(active) > 0 {
		return f.stmts[active[0]].value, true
	}
	return Value{}, false
}

// Assignments gives every active assignment of key, in the order of the file.
// libvirt uses the first and ignores the others in silence.
func (f *File) Assignments(key string) []Assignment {
	var as []Assignment
	for _, i := range f.index[key] {
		s := f.stmts[i]
		as = append(as, Assignment{Line: f.line(s.start), EndLine: f.line(s.valEnd - 1), Value: s.value})
	}
	return as
}

// Keys gives each key with an active assignment once, in the order of the file.
func (f *File) Keys() []string {
	var keys []string
	for i, s := range f.stmts {
		if s.key != "" && f.index[s.key][0] == i {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// line gives the line, from 1, of the byte at pos.
func (f *File) line(pos int) int { return 1 + sort.SearchInts(f.newlines, pos) }
