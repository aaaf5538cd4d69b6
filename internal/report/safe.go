package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SafeRunes is how many characters of a text Safe keeps.
const SafeRunes = 200

// maxMarks is how many combining marks may stand on one character: more are
// used to paint over the lines around it.
const maxMarks = 2

const ellipsis = "..."

// Safe makes a text that a host, or anyone else, said fit for one line of a
// terminal. Control characters (also C1 and line ends), marks that change the
// direction of text, characters that cannot be seen and bytes that are no
// UTF-8 are written as \n, \x1b or \u202e; what is longer than SafeRunes is
// cut and ends with "...". Safe of a safe text is that text.
func Safe(s string) string { return safe(s, SafeRunes, false) }

// SafeN is Safe with another limit in characters, at least 4; 0 is no limit.
func SafeN(s string, limit int) string { return safe(s, limit, false) }

// SafeLines is Safe for a text of several lines: line ends stay. The limit is
// in characters over all lines; 0 is no limit.
func SafeLines(s string, limit int) string { return safe(s, limit, true) }

func safe(s string, limit int, lines bool) string {
	var b strings.Builder
	marks := maxMarks // a text does not begin with a mark either
	for i, n := 0, 0; i < len(s) && (limit <= 0 || n <= limit); n++ {
		r, size := utf8.DecodeRuneInString(s[i:])
		marked := unicode.Is(unicode.M, r)
		if marked {
			marks++
		} else {
			marks = 0
		}
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n' && lines:
			b.WriteByte('\n')
			marks = maxMarks
		case unsafe(r), marks > maxMarks:
			b.WriteString(escape(r))
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	out := b.String()
	if limit <= 0 || utf8.RuneCountInString(out) <= limit {
		return out
	}
	kept := []rune(out)[:max(1, limit-len(ellipsis))]
	return string(kept) + ellipsis
}

func escape(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r < 0x100:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// unsafe reports whether a terminal or a reader could be misled by r:
// everything that does not print (control, format and private characters,
// separators and spaces other than the plain one), and letters and marks that
// are drawn as nothing.
func unsafe(r rune) bool {
	switch {
	case !unicode.IsPrint(r):
		return true
	case r == 0x034F, r == 0x115F, r == 0x1160, r == 0x17B4, r == 0x17B5, r == 0x3164, r == 0xFFA0, r == 0x2800:
		return true
	}
	return unicode.Is(unicode.Variation_Selector, r)
}
