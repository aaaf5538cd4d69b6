package sshconfig

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Bounds on what is read.
const (
	maxDepth     = 16      // of Include, as in OpenSSH
	maxFileBytes = 1 << 20 // of one file
	maxFiles     = 1000    // of one configuration
)

// File is a configuration file to read.
type File struct {
	Path     string
	System   bool // relative paths of Include are below its directory, not below ~/.ssh
	Optional bool // it may be missing
}

// Config is a configuration that was read. It is safe for use by many
// goroutines.
type Config struct {
	files []*file
	home  string
}

type file struct {
	path  string
	lines []line
}

// line is one line that is neither empty nor a comment.
type line struct {
	number  int
	keyword string // lower-case
	args    []string
	rest    string  // everything behind the keyword, for those that take the line as it is
	include []*file // of an Include
	err     error   // why the line cannot be used; matters only where it is active
}

// Read reads files in the order in which they decide: the user's own first.
// Home is the directory that ~ stands for.
func Read(home string, files ...File) (*Config, error) {
	c := &Config{home: home}
	r := &reading{home: home}
	for _, f := range files {
		got, err := r.file(f.Path, f.System, 0)
		if f.Optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c.files = append(c.files, got)
	}
	return c, nil
}

type reading struct {
	home  string
	count int
}

func (r *reading) file(path string, system bool, depth int) (*file, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: Include goes deeper than %d files", path, maxDepth)
	}
	if r.count++; r.count > maxFiles {
		return nil, fmt.Errorf("%s: more than %d files are included", path, maxFiles)
	}
	data, err := readFile(path, system)
	if err != nil {
		return nil, err
	}
	f := &file{path: path}
	in := bufio.NewScanner(bytes.NewReader(data))
	in.Buffer(nil, maxFileBytes)
	for number := 1; in.Scan(); number++ {
		l, ok := parseLine(in.Text())
		if !ok {
			continue
		}
		l.number = number
		if l.err != nil {
			l.err = fmt.Errorf("%s:%d: %w", path, number, l.err)
		}
		if l.keyword == "include" && l.err == nil {
			l.include, l.err = r.include(path, number, l.args, system, depth)
		}
		f.lines = append(f.lines, l)
	}
	return f, in.Err()
}

// readFile refuses a file of the user's that others may write to, as ssh does:
// who writes it decides where keys are offered.
func readFile(path string, system bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory", path)
	}
	if !system && info.Mode().IsRegular() {
		owner, _ := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm()&0o022 != 0 || owner != nil && owner.Uid != 0 && int(owner.Uid) != os.Getuid() {
			return nil, fmt.Errorf("%s belongs to somebody else or others may write to it: chmod go-w it", path)
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFileBytes)
	}
	return data, err
}

func (r *reading) include(path string, number int, args []string, system bool, depth int) ([]*file, error) {
	var out []*file
	for _, a := range args {
		name := a
		switch rest, home := strings.CutPrefix(a, "~/"); {
		case home && !system:
			name = filepath.Join(r.home, rest)
		case filepath.IsAbs(a):
		case system:
			name = filepath.Join("/etc/ssh", a)
		default:
			name = filepath.Join(r.home, ".ssh", a)
		}
		matches, err := filepath.Glob(name)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: Include %s: %w", path, number, a, err)
		}
		slices.Sort(matches)
		for _, m := range matches {
			f, err := r.file(m, system, depth+1)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				continue // ssh does so, too
			}
			if err != nil {
				return nil, fmt.Errorf("%s:%d: Include: %w", path, number, err)
			}
			out = append(out, f)
		}
	}
	return out, nil
}
