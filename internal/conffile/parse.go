package conffile

import (
	"bytes"
	"errors"
	"math"
)

const maxDepth = 32 // of lists in lists; libvirt's parser recurses without a limit

// A parser walks over src. Its errors carry no line: the caller derives that from pos.
type parser struct {
	src   []byte
	pos   int
	stmts []statement
}

// cur gives the byte at pos, 0 at the end; src holds no NUL.
func (p *parser) cur() byte {
	if p.pos >= len(p.src) {
		return 0
	}
	return p.src[p.pos]
}

// A lone CR ends a line, and so a comment, too: what follows it is active.
func isEOL(c byte) bool   { return c == '\n' || c == '\r' }
func isBlank(c byte) bool { return c == ' ' || c == '\t' }
func isAlpha(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isName(c byte) bool  { return isAlpha(c) || isDigit(c) || c == '_' }

func (p *parser) skip(f func(byte) bool) {
	for p.pos < len(p.src) && f(p.src[p.pos]) {
		p.pos++
	}
}

func (p *parser) blanks()       { p.skip(isBlank) }
func (p *parser) blanksAndEOL() { p.skip(func(c byte) bool { return isBlank(c) || isEOL(c) }) }
func (p *parser) restOfLine()   { p.skip(func(c byte) bool { return !isEOL(c) }) }

func (p *parser) file() error {
	for p.pos < len(p.src) {
		if err := p.statement(); err != nil {
			return err
		}
		if err := p.separator(); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) statement() error {
	p.blanksAndEOL()
	s := statement{start: p.pos}
	if p.cur() == '#' {
		p.restOfLine()
		s.end = p.pos
		p.stmts = append(p.stmts, s)
		return nil
	}
	if !isAlpha(p.cur()) {
		if p.pos >= len(p.src) {
			return errors.New("only blank lines, which libvirt refuses: empty the file or add a comment")
		}
		return errors.New("expecting a key, which begins with a letter, or a comment")
	}
	p.skip(isName)
	s.key = string(p.src[s.start:p.pos])
	p.blanks()
	if p.cur() != '=' {
		return errors.New("expecting '=' after the key")
	}
	p.pos++
	p.blanks()
	s.valPos = p.pos
	var err error
	if s.value, err = p.value(0); err != nil {
		return err
	}
	s.valEnd, s.end = p.pos, p.pos
	p.blanks()
	if p.cur() == '#' {
		p.restOfLine()
		s.end = p.pos
	}
	p.stmts = append(p.stmts, s)
	return nil
}

// separator takes what must stand between two statements: an EOL or a semicolon.
func (p *parser) separator() error {
	p.blanks()
	switch c := p.cur(); {
	case p.pos >= len(p.src):
	case isEOL(c):
		p.blanksAndEOL()
	case c == ';':
		p.pos++
		p.blanksAndEOL()
	default:
		return errors.New("unexpected text after the value")
	}
	return nil
}

func (p *parser) value(depth int) (Value, error) {
	p.blanks()
	switch c := p.cur(); {
	case c == '"' || c == '\'':
		s, err := p.str()
		return String(s), err
	case c == '[':
		return p.list(depth)
	case isDigit(c) || c == '-' || c == '+':
		return p.integer()
	case c == '#' && depth > 0:
		return Value{}, errors.New("a comment inside a list, which libvirt refuses")
	}
	return Value{}, errors.New("expecting a value: a string in quotes, an integer or a list")
}

func (p *parser) str() (string, error) {
	quote := p.src[p.pos : p.pos+1]
	// libvirt looks for a triple quote only where seven bytes are left.
	triple := p.pos+6 < len(p.src) && bytes.HasPrefix(p.src[p.pos:], []byte(`"""`))
	if triple {
		quote = p.src[p.pos : p.pos+3]
	}
	body := p.src[p.pos+len(quote):]
	n := bytes.Index(body, quote)
	if n < 0 || !triple && bytes.ContainsAny(body[:n], "\r\n") {
		return "", errors.New("the string has no closing quote")
	}
	p.pos += n + 2*len(quote)
	return string(body[:n]), nil
}

func (p *parser) integer() (Value, error) {
	minus := p.cur() == '-'
	if minus || p.cur() == '+' {
		p.pos++
	}
	if !isDigit(p.cur()) {
		return Value{}, errors.New("a sign without a number")
	}
	limit := uint64(math.MaxInt64)
	if minus {
		limit++
	}
	var n uint64
	for ; isDigit(p.cur()); p.pos++ {
		d := uint64(p.cur() - '0')
		if n > (limit-d)/10 {
			return Value{}, errors.New("the integer does not fit 64 bits")
		}
		n = n*10 + d
	}
	if minus {
		return Value{kind: KindInt, num: -int64(n), minus: true}, nil
	}
	return Int(int64(n)), nil
}

func (p *parser) list(depth int) (Value, error) {
	if depth >= maxDepth {
		return Value{}, errors.New("lists nested too deep")
	}
	p.pos++
	v := Value{kind: KindList}
	p.blanksAndEOL()
	for p.pos < len(p.src) && p.cur() != ']' {
		item, err := p.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		v.list = append(v.list, item)
		p.blanksAndEOL()
		if p.pos >= len(p.src) || p.cur() == ']' {
			break
		}
		if p.cur() == '#' {
			return Value{}, errors.New("a comment inside a list, which libvirt refuses")
		}
		if p.cur() != ',' {
			return Value{}, errors.New("expecting ',' or ']' in the list")
		}
		p.pos++
		p.blanksAndEOL()
	}
	if p.cur() != ']' {
		return Value{}, errors.New("the list has no closing ]")
	}
	p.pos++
	return v, nil
}
