package inventory

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mitchellh/go-wordwrap"
)

// Render writes the diagnostics for a terminal, each with the lines of the
// source that it is about. The text is wrapped at width columns; 0 leaves it
// unwrapped. With color, severities are marked by ANSI colours; nothing of
// the configuration can add escape sequences of its own. The error is the
// writer's.
func (d Diagnostics) Render(w io.Writer, width int, color bool) error {
	var b bytes.Buffer
	for i, x := range d.list {
		if i > 0 {
			b.WriteByte('\n')
		}
		x.render(&b, d.sources, width, color)
	}
	_, err := w.Write(b.Bytes())
	return err
}

var severityColor = map[Severity]string{SeverityError: "\x1b[31m", SeverityWarning: "\x1b[33m", SeverityNote: "\x1b[36m"}

const snippetLines = 4 // of a source that spans more

func (x Diagnostic) render(b *bytes.Buffer, sources map[string][]byte, width int, color bool) {
	paint, reset := severityColor[x.Severity], "\x1b[0m"
	if !color {
		paint, reset = "", ""
	}
	fmt.Fprintf(b, "%s%s:%s %s\n", paint, upperFirst(string(x.Severity)), reset, visible(x.Summary))
	if x.Source != nil {
		fmt.Fprintf(b, "  %s:%d:%d\n", visible(x.Source.File), x.Source.Start.Line, x.Source.Start.Column)
		if !x.secret {
			x.snippet(b, sources[x.Source.File], paint, reset)
		}
	}
	if x.Detail != "" {
		text := visible(x.Detail)
		if width > 20 {
			text = wordwrap.WrapString(text, uint(width-2))
		}
		b.WriteString("  " + strings.ReplaceAll(text, "\n", "\n  ") + "\n")
	}
}

// snippet shows the lines of the source and marks the stretch meant.
func (x Diagnostic) snippet(b *bytes.Buffer, src []byte, paint, reset string) {
	start, end := x.Source.Start.Byte, max(x.Source.End.Byte, x.Source.Start.Byte)
	if start > len(src) || len(src) == 0 {
		return
	}
	end = min(end, len(src))
	from := bytes.LastIndexByte(src[:start], '\n') + 1
	for n := 0; n < snippetLines && from <= end; n++ {
		to := len(src)
		if i := bytes.IndexByte(src[from:], '\n'); i >= 0 {
			to = from + i
		}
		line := strings.TrimSuffix(string(src[from:to]), "\r")
		if len(line) > 300 {
			return
		}
		fmt.Fprintf(b, "  %4d | %s\n", x.Source.Start.Line+n, visible(line))
		a, z := max(start-from, 0), min(end-from, len(line))
		if a <= len(line) {
			a += len(line[a:]) - len(strings.TrimLeft(line[a:], " \t"))
			marks := max(1, columns(line, a, max(a, z)))
			fmt.Fprintf(b, "       | %s%s%s%s\n", strings.Repeat(" ", columns(line, 0, a)), paint, strings.Repeat("^", marks), reset)
		}
		if from = to + 1; from >= end {
			return
		}
	}
}

func columns(line string, from, to int) int {
	return utf8.RuneCountInString(visible(line[from:min(max(to, from), len(line))]))
}

// visible replaces what a terminal would act upon, and marks that change the
// direction of text.
func visible(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n':
			return c
		case c == '\t':
			return ' '
		case unicode.IsControl(c) || unicode.Is(unicode.Cf, c) || c == utf8.RuneError:
			return '\uFFFD'
		}
		return c
	}, s)
}
