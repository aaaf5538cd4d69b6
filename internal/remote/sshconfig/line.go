package sshconfig

import (
	"errors"
	"strings"
)

const blank = " \t\r\n\f"

// parseLine splits a line into keyword and arguments; false means that it says
// nothing.
func parseLine(text string) (line, bool) {
	text = strings.Trim(text, blank)
	if text == "" || text[0] == '#' {
		return line{}, false
	}
	end := strings.IndexAny(text, blank+"=")
	if end < 0 {
		return line{keyword: strings.ToLower(text), err: errors.New("the keyword has no value")}, true
	}
	l := line{keyword: strings.ToLower(text[:end])}
	// At most one = stands between keyword and value.
	rest := strings.TrimLeft(text[end:], blank)
	if after, ok := strings.CutPrefix(rest, "="); ok {
		rest = strings.TrimLeft(after, blank)
	}
	l.rest = rest
	switch l.keyword {
	case "proxycommand", "localcommand", "remotecommand", "knownhostscommand":
		// The whole line is one value, in which quotes mean nothing here.
		l.args = []string{rest}
	default:
		l.args, l.err = split(rest)
	}
	if l.err == nil && len(l.args) == 0 {
		l.err = errors.New("the keyword has no value")
	}
	return l, true
}

// split is OpenSSH's argv_split: words with quotes and backslashes, up to a #
// that begins a word.
func split(s string) ([]string, error) {
	var out []string
	for i := 0; i < len(s); i++ {
		if s[i] == ' ' || s[i] == '\t' {
			continue
		}
		if s[i] == '#' {
			break
		}
		var word strings.Builder
		var quote byte
	chars:
		for ; i < len(s); i++ {
			c := s[i]
			switch {
			case c == '\\' && i+1 < len(s) && (s[i+1] == '\'' || s[i+1] == '"' || s[i+1] == '\\' || quote == 0 && s[i+1] == ' '):
				i++
				word.WriteByte(s[i])
				continue
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
				continue
			case quote != 0 && c == quote:
				quote = 0
				continue
			case quote == 0 && (c == ' ' || c == '\t'):
				break chars
			}
			word.WriteByte(c)
		}
		if quote != 0 {
			return nil, errors.New("a quote is not closed")
		}
		out = append(out, word.String())
	}
	return out, nil
}
