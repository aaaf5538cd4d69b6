package conffile

import (
	"bytes"
	"fmt"
	"strings"
)

// vdsmMark are words that vdsm-tool takes for its own: it deletes every line that
// has them, whoever wrote it.
const vdsmMark = "by vdsm"

// An edit replaces src[from:to].
type edit struct {
	from, to int
	text     string
}

// Set gives key the value v, and changes as little as that takes.
//
// If v is what libvirt already uses, no byte changes, even if the key is assigned
// again further down (Assignments tells). Otherwise the value of the first
// assignment is replaced in its place and every later assignment of the key is
// commented out. Without an active assignment, a line is inserted after the
// commented example of the key (`#key = …` or `# key = …`), else at the end of the
// file, in the line ending of its surroundings. What is written is always one line.
//
// It is an error if key is no key, if v cannot be written (Value.Syntax), holds the
// words "by vdsm", or makes the file larger than MaxSize. The file is then unchanged.
func (f *File) Set(key string, v Value) error {
	if !validKey(key) {
		return fmt.Errorf("setting %q: a key is a letter followed by letters, digits and underscores", key)
	}
	if old, ok := f.Get(key); ok && old.Equal(v) {
		return nil
	}
	text, err := v.Syntax()
	if err != nil {
		return fmt.Errorf("setting %s: %w", key, err)
	}
	if strings.Contains(text, vdsmMark) {
		return fmt.Errorf("setting %s: the value holds the words %q, and vdsm-tool deletes every line with them", key, vdsmMark)
	}
	active := f.index[key]
	if len(active) == 0 {
		return f.apply(key, []edit{f.insertion(key + " = " + text)})
	}
	first := f.stmts[active[0]]
	edits := []edit{{first.valPos, first.valEnd, text}}
	return f.apply(key, append(edits, f.commentOut(active[1:])...))
}

// Unset comments out every active assignment of key, so that libvirt's default
// holds. Nothing happens if there is none. It is an error, and the file unchanged,
// if the file would grow beyond MaxSize.
func (f *File) Unset(key string) error {
	if len(f.index[key]) == 0 {
		return nil
	}
	return f.apply(key, f.commentOut(f.index[key]))
}

// apply carries out edits, which are in the order of the file and do not overlap.
func (f *File) apply(key string, edits []edit) error {
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		out.Write(f.src[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.Write(f.src[at:])
	g, err := Parse(out.Bytes())
	if err != nil {
		return fmt.Errorf("editing %s: %w", key, err)
	}
	*f = *g
	return nil
}

// commentOut gives the edits that make comments of statements and of nothing else: a
// statement that shares its line with another gets a line of its own first.
func (f *File) commentOut(stmts []int) []edit {
	if len(stmts) == 0 {
		return nil
	}
	eol := f.eolAt(f.stmts[stmts[0]].end)
	var edits []edit
	for _, i := range stmts {
		s := f.stmts[i]
		bol := s.start
		for bol > 0 && isBlank(f.src[bol-1]) {
			bol--
		}
		if bol == 0 || isEOL(f.src[bol-1]) {
			edits = append(edits, edit{bol, bol, "#"})
		} else {
			edits = append(edits, edit{s.start, s.start, eol + "#"})
		}
		for p := s.start + 1; p < s.valEnd; p++ {
			if c := f.src[p-1]; c == '\n' || c == '\r' && f.src[p] != '\n' {
				edits = append(edits, edit{p, p, "#"})
			}
		}
		p := parser{src: f.src, pos: s.end}
		p.blanks()
		if p.cur() == ';' {
			p.pos++
			p.blanks()
		}
		if p.pos < len(f.src) && !isEOL(p.cur()) && p.cur() != '#' {
			edits = append(edits, edit{p.pos, p.pos, eol})
		}
	}
	return edits
}

// insertion gives the edit that adds the line `key = value`.
func (f *File) insertion(line string) edit {
	key, _, _ := strings.Cut(line, " ")
	at, eol := len(f.src), f.lastEOL()
	if i, ok := f.example(key); ok {
		at = f.stmts[i].end
		eol = f.eolAt(at)
		at = min(at+len(eol), len(f.src))
	}
	if at > 0 && !isEOL(f.src[at-1]) {
		line = eol + line
	}
	return edit{at, at, line + eol}
}

// example finds the comment after which an assignment of key belongs: the last line
// of the commented example of that key. `#key =` is preferred to `# key =`, which
// may be prose.
func (f *File) example(key string) (int, bool) {
	found := -1
	for i, s := range f.stmts {
		switch k, spaced, _ := f.commented(s); {
		case k != key:
		case !spaced:
			return f.exampleEnd(i), true
		case found < 0:
			found = i
		}
	}
	if found < 0 {
		return 0, false
	}
	return f.exampleEnd(found), true
}

// commented takes a comment apart that holds an assignment. spaced tells that a
// blank follows the '#'.
func (f *File) commented(s statement) (key string, spaced bool, value string) {
	if s.key != "" {
		return "", false, ""
	}
	text := string(f.src[s.start+1 : s.end])
	if text != "" && isBlank(text[0]) {
		text, spaced = text[1:], true
	}
	key, value, ok := strings.Cut(text, "=")
	key = strings.TrimRight(key, " \t")
	if !ok || !validKey(key) {
		return "", false, ""
	}
	return key, spaced, value
}

// exampleEnd follows a commented list over several lines to the line with its ].
// It gives i itself if that is no such list.
func (f *File) exampleEnd(i int) int {
	_, _, value := f.commented(f.stmts[i])
	if !strings.HasPrefix(strings.TrimLeft(value, " \t"), "[") || strings.Contains(value, "]") {
		return i
	}
	for j := i + 1; j < len(f.stmts); j++ {
		s := f.stmts[j]
		gap := string(f.src[f.stmts[j-1].end:s.start])
		if k, _, _ := f.commented(s); s.key != "" || k != "" || strings.Trim(gap, " \t") != f.eolAt(f.stmts[j-1].end) {
			return i
		}
		if bytes.IndexByte(f.src[s.start:s.end], ']') >= 0 {
			return j
		}
	}
	return i
}

// eolAt gives the line ending that follows pos, else that of the file.
func (f *File) eolAt(pos int) string {
	for ; pos < len(f.src); pos++ {
		if f.src[pos] == '\n' {
			return "\n"
		}
		if f.src[pos] == '\r' {
			if pos+1 < len(f.src) && f.src[pos+1] == '\n' {
				return "\r\n"
			}
			return "\r"
		}
	}
	return f.lastEOL()
}

// lastEOL gives the last line ending of the file, "\n" if it has none.
func (f *File) lastEOL() string {
	i := bytes.LastIndexAny(f.src, "\r\n")
	switch {
	case i < 0 || f.src[i] == '\n' && (i == 0 || f.src[i-1] != '\r'):
		return "\n"
	case f.src[i] == '\r':
		return "\r"
	}
	return "\r\n"
}

func validKey(key string) bool {
	if key == "" || !isAlpha(key[0]) {
		return false
	}
	for i := range len(key) {
		if !isName(key[i]) {
			return false
		}
	}
	return true
}
