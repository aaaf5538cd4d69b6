package ansible

import (
	"fmt"
	"strings"
)

// ini reads the format of /etc/ansible/hosts.
func (r *reader) ini(text string) error {
	current, kind := "ungrouped", "hosts"
	at := 0
	for l := range strings.Lines(text) {
		at++
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' || l[0] == ';' {
			continue
		}
		var err error
		switch {
		case l[0] == '[' && isSection(l):
			current, kind, err = section(l)
			if err == nil {
				r.group(current)
			}
		case kind == "vars":
			k, v, ok := strings.Cut(l, "=")
			if !ok {
				err = fmt.Errorf("%q is not NAME=VALUE", l)
				break
			}
			r.group(current).vars[strings.TrimSpace(k)] = unquote(strings.TrimSpace(v))
		case kind == "children":
			words, e := split(l)
			if err = e; err == nil && len(words) > 0 {
				r.group(current).child(words[0])
				r.group(words[0])
			}
		default:
			err = r.hostLine(current, l)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", at, err)
		}
	}
	return nil
}

// isSection tells [group] from a host whose name begins with a range or is an
// IPv6 address in brackets.
func isSection(l string) bool {
	end := strings.IndexByte(l, ']')
	if end < 0 {
		return true
	}
	rest := strings.TrimSpace(l[end+1:])
	if rest != "" && rest[0] != '#' && rest[0] != ';' {
		return false
	}
	_, tail, found := strings.Cut(l[1:end], ":")
	return !found || tail == "vars" || tail == "children" || tail == "hosts" || !strings.ContainsAny(tail, "0123456789")
}

func section(l string) (name, kind string, err error) {
	end := strings.IndexByte(l, ']')
	if end < 0 {
		return "", "", fmt.Errorf("%q lacks its ]", l)
	}
	name, kind, found := strings.Cut(l[1:end], ":")
	name = strings.TrimSpace(name)
	if !found {
		kind = "hosts"
	}
	if name == "" || kind != "hosts" && kind != "vars" && kind != "children" {
		return "", "", fmt.Errorf("%q is no section: there are [GROUP], [GROUP:children] and [GROUP:vars]", l)
	}
	return name, kind, nil
}

func (r *reader) hostLine(group, l string) error {
	words, err := split(l)
	if err != nil || len(words) == 0 {
		return err
	}
	values := vars{}
	for _, w := range words[1:] {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return fmt.Errorf("%q is not NAME=VALUE", w)
		}
		values[k] = unquote(v)
	}
	return r.add(r.group(group), words[0], values)
}

// split takes a line apart as a shell would, without expansions; # begins a
// comment.
func split(l string) ([]string, error) {
	var out []string
	var b strings.Builder
	in := false // a word has begun
	var quote byte
	for i := 0; i < len(l); i++ {
		c := l[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == '"' && c == '\\' && i+1 < len(l) && (l[i+1] == '"' || l[i+1] == '\\'), quote == 0 && c == '\\' && i+1 < len(l):
			i++
			b.WriteByte(l[i])
			in = true
		case quote != 0:
			b.WriteByte(c)
		case c == '\'' || c == '"':
			quote, in = c, true
		case c == ' ' || c == '\t':
			if in {
				out = append(out, b.String())
			}
			b.Reset()
			in = false
		case c == '#' && !in:
			i = len(l)
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a %c is not closed", quote)
	}
	if in {
		out = append(out, b.String())
	}
	return out, nil
}

// unquote drops the quotes of a Python string.
func unquote(s string) string {
	if len(s) > 1 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}
