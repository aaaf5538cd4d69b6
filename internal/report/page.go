package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/mitchellh/go-wordwrap"
	"github.com/muesli/termenv"
)

// palette is the few colours that a page uses. Without colour each renders
// its text as it is.
type palette struct {
	strong, good, careful, bad, quiet lipgloss.Style
}

func newPalette(color bool) palette {
	profile := termenv.Ascii
	if color {
		profile = termenv.ANSI
	}
	// Both the output and the renderer would look at the environment else.
	r := lipgloss.NewRenderer(io.Discard, termenv.WithProfile(profile))
	r.SetColorProfile(profile)
	ink := func(c string) lipgloss.Style { return r.NewStyle().Foreground(lipgloss.Color(c)) }
	return palette{strong: r.NewStyle().Bold(true), good: ink("2"), careful: ink("3"), bad: ink("1"), quiet: r.NewStyle().Faint(true)}
}

// page gathers a text. What is given to it has gone through Safe.
type page struct {
	Options
	palette
	b     strings.Builder
	large bool   // many hosts: exceptions are told briefly
	brief bool   // operations in one text, without their details
	code  string // the first code that stands on the page, the worst of its part
}

func newPage(o Options) *page {
	if o.Width < 40 {
		o.Width = 80
	}
	return &page{Options: o, palette: newPalette(o.Color)}
}

func (p *page) flush(w io.Writer) error {
	_, err := io.WriteString(w, p.b.String())
	return err
}

func (p *page) linef(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

// gap is an empty line between parts, none at the top.
func (p *page) gap() {
	if p.b.Len() > 0 {
		p.b.WriteByte('\n')
	}
}

// hang writes text wrapped at the width: head before the first line and as
// many spaces before the others. Style colours the head, or the whole text
// when there is no head; it may be nil.
func (p *page) hang(head, text string, style *lipgloss.Style) {
	indent := lipgloss.Width(head)
	room := max(20, p.Width-indent)
	lines := strings.Split(wordwrap.WrapString(text, uint(room)), "\n")
	if style != nil && head == "" {
		for i, l := range lines {
			lines[i] = style.Render(l)
		}
	} else if style != nil {
		lead := len(head) - len(strings.TrimLeft(head, " "))
		word := strings.TrimRight(head[lead:], " ")
		head = head[:lead] + style.Render(word) + head[lead+len(word):]
	}
	for i, l := range lines {
		if i > 0 {
			head = strings.Repeat(" ", indent)
		}
		p.b.WriteString(strings.TrimRight(head+l, " ") + "\n")
	}
}

// pad fills s with spaces to n columns.
func pad(s string, n int) string { return s + strings.Repeat(" ", max(0, n-lipgloss.Width(s))) }

// count is "1 host" or "3 hosts".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "ory"); ok {
		return fmt.Sprintf("%d %sories", n, stem)
	}
	if strings.HasSuffix(noun, "s") {
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
