// Package screen draws what a program wrote on a terminal as a picture, for
// the documentation.
package screen

import (
	"fmt"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Sizes in pixels, of a font whose characters are as wide as 0.6 of its height.
const (
	size   = 13
	wide   = 7.83
	high   = 18
	margin = 16
)

// style follows the reader's: dark ink on light paper, or light on dark.
const style = `<style>
rect { fill: #ffffff; stroke: #d0d7de }
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328; white-space: pre }
.b { font-weight: 700 } .f { fill: #6e7781 } .r { fill: #cf222e } .g { fill: #1a7f37 } .y { fill: #9a6700 }
@media (prefers-color-scheme: dark) {
rect { fill: #0d1117; stroke: #30363d }
text { fill: #e6edf3 }
.f { fill: #8b949e } .r { fill: #ff7b72 } .g { fill: #3fb950 } .y { fill: #d29922 }
}
</style>
`

var sequence = regexp.MustCompile(`\x1b\[([0-9;?]*)([A-Za-z])`)

// classes are the styles of a rendition, by its number.
var classes = map[int]string{1: "b", 2: "f", 31: "r", 32: "g", 33: "y", 91: "r", 92: "g", 93: "y"}

// SVG draws a terminal's text with its colours. Sequences that move the cursor
// are not understood: the error names one that would be lost.
func SVG(text string) ([]byte, error) {
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n")
	var body strings.Builder
	columns := 0
	for i, line := range lines {
		spans, n, err := spans(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		columns = max(columns, n)
		fmt.Fprintf(&body, "<text x=\"%d\" y=\"%d\" xml:space=\"preserve\">%s</text>\n", margin, margin+i*high+size, spans)
	}
	w, h := int(float64(columns)*wide)+2*margin, len(lines)*high+2*margin
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n%s", w, h, w, h, style)
	fmt.Fprintf(&b, "<rect x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n%s</svg>\n", w-1, h-1, body.String())
	return []byte(b.String()), nil
}

// spans are one line's texts with their styles, and how many columns they take.
func spans(line string) (string, int, error) {
	var b strings.Builder
	var on []string
	columns := 0
	write := func(text string) error {
		if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
			return fmt.Errorf("the character %q cannot be drawn", text[i:i+1])
		}
		columns += utf8.RuneCountInString(text)
		switch {
		case text == "":
		case len(on) == 0:
			b.WriteString(html.EscapeString(text))
		default:
			fmt.Fprintf(&b, "<tspan class=\"%s\">%s</tspan>", strings.Join(on, " "), html.EscapeString(text))
		}
		return nil
	}
	for {
		m := sequence.FindStringSubmatchIndex(line)
		if m == nil {
			err := write(line)
			return b.String(), columns, err
		}
		if err := write(line[:m[0]]); err != nil {
			return "", 0, err
		}
		if kind := line[m[4]:m[5]]; kind == "K" && m[1] == len(line) {
			line = ""
			continue
		} else if kind != "m" {
			return "", 0, fmt.Errorf("the sequence %q cannot be drawn", line[m[0]:m[1]])
		}
		for _, number := range strings.Split(line[m[2]:m[3]], ";") {
			n, _ := strconv.Atoi(number) // an empty one is 0
			switch class, known := classes[n]; {
			case n == 0:
				on = nil
			case known && !slices.Contains(on, class):
				on = append(on, class)
			}
		}
		line = line[m[1]:]
	}
}

// Clip keeps the first and the last lines of a long text, and says how many
// lie between.
func Clip(text string, first, last int) string {
	lines := strings.Split(strings.TrimRight(text, "\r\n"), "\n")
	left := len(lines) - first - last
	if left <= 1 {
		return text
	}
	return strings.Join(lines[:first], "\n") + fmt.Sprintf("\n\x1b[2m  [%d lines]\x1b[0m\n", left) + strings.Join(lines[len(lines)-last:], "\n")
}
