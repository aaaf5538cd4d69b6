package conffile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// An Environment is a file of variables that systemd reads for a unit
// (EnvironmentFile=, systemd.exec(5)): NAME=value, one a line, the last one
// wins. The zero Environment is an empty file.
type Environment struct {
	lines []line
}

// line is one logical line: what a backslash joins is one.
type line struct {
	text  string // with its end
	name  string // "" for comments, empty lines and what systemd ignores
	value string
	plain bool // the value is one word or one quoted text, which Get understands
}

// ParseEnvironment reads such a file. It refuses files over MaxSize and those
// that are no text.
func ParseEnvironment(src []byte) (*Environment, error) {
	if len(src) > MaxSize {
		return nil, fmt.Errorf("the file has %d bytes, more than the %d that a configuration file may have", len(src), MaxSize)
	}
	if i := bytes.IndexByte(src, 0); i >= 0 {
		return nil, &SyntaxError{1 + bytes.Count(src[:i], []byte("\n")), "a NUL byte: this is not a text file"}
	}
	e := &Environment{}
	rest := string(src)
	for rest != "" {
		text := ""
		for {
			one, after, more := strings.Cut(rest, "\n")
			rest = after
			text += one
			if more {
				text += "\n"
			}
			if !more || !strings.HasSuffix(one, `\`) && !open(text) || isComment(text) {
				break
			}
		}
		e.lines = append(e.lines, parseLine(text))
	}
	return e, nil
}

func isComment(text string) bool {
	text = strings.TrimLeft(text, " \t")
	return text != "" && (text[0] == '#' || text[0] == ';')
}

// open tells whether a quote that begins the value has no end yet.
func open(text string) bool {
	_, v, ok := strings.Cut(text, "=")
	v = strings.TrimLeft(v, " \t")
	return ok && v != "" && (v[0] == '"' || v[0] == '\'') && !strings.Contains(v[1:], v[:1])
}

func parseLine(text string) line {
	l := line{text: text}
	body := strings.TrimSpace(text)
	if body == "" || isComment(body) {
		return l
	}
	name, value, ok := strings.Cut(body, "=")
	name, value = strings.TrimRight(name, " \t"), strings.TrimLeft(value, " \t")
	if !ok || !variable(name) {
		return l
	}
	l.name, l.value = name, value
	if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		l.value = value[1 : n-1]
	}
	l.plain = !strings.ContainsAny(l.value, "\"'\\\n")
	return l
}

func variable(name string) bool {
	return name != "" && (name[0] < '0' || name[0] > '9') && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// Get gives the value that a unit gets for a variable: its last assignment.
// Plain is false for a value with quotes or backslashes inside, which is given
// as it stands.
func (e *Environment) Get(name string) (value string, plain, ok bool) {
	for _, l := range e.lines {
		if l.name == name {
			value, plain, ok = l.value, l.plain, true
		}
	}
	return value, plain, ok
}

// Set makes value what a unit gets for a variable: the last assignment is
// replaced, or one is added at the end. Nothing else of the file changes.
// Names that are no variable's and values with quotes, backslashes or line
// breaks are refused, and so is a file whose last line is not finished.
func (e *Environment) Set(name, value string) error {
	if !variable(name) {
		return fmt.Errorf("%q is no name of a variable", name)
	}
	if strings.ContainsAny(value, "\"'\\\n\r\x00") {
		return fmt.Errorf("the value of %s holds a quote, a backslash or a line break", name)
	}
	text := name + `="` + value + "\"\n"
	for i := len(e.lines) - 1; i >= 0; i-- {
		if e.lines[i].name == name {
			if !strings.HasSuffix(e.lines[i].text, "\n") {
				text = strings.TrimSuffix(text, "\n")
			}
			e.lines[i] = parseLine(text)
			return nil
		}
	}
	if n := len(e.lines); n > 0 {
		last := strings.TrimSuffix(e.lines[n-1].text, "\n")
		if !isComment(last) && (strings.HasSuffix(last, `\`) || open(last)) {
			return errors.New("its last line is not finished: a quote is open, or it ends with a backslash")
		}
		e.lines[n-1].text = last + "\n"
	}
	e.lines = append(e.lines, parseLine(text))
	return nil
}

// Bytes gives the file as it is now.
func (e *Environment) Bytes() []byte {
	var b bytes.Buffer
	for _, l := range e.lines {
		b.WriteString(l.text)
	}
	return b.Bytes()
}
