package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/virtrust/virtrust/plan"
)

// maxMarkdown is how many bytes of a section a Markdown page keeps. The two
// sections and what is around them stay below GitHub's 65,536 characters.
const maxMarkdown = 30_000

// markdownWidth is the width of the text inside a Markdown page.
const markdownWidth = 100

// PlanMarkdown writes a plan for a comment on a change: the summary as the
// heading, then everything that Plan writes, in fenced blocks that nothing in
// the text can leave. Width and colour of the options are not used. The error
// is the writer's.
func PlanMarkdown(w io.Writer, pl *plan.Plan, o Options) error {
	o.Width, o.Color = markdownWidth, false
	s := sortOut(pl)
	changes, rest, summary := newPage(o), newPage(o), newPage(o)
	summary.Width = 1 << 16
	changes.changes(s, pl, "")
	rest.exceptions(s)
	summary.summary(s)
	head, more, _ := strings.Cut(strings.TrimSpace(summary.b.String()), "\n")
	var b strings.Builder
	fmt.Fprintf(&b, "### virtrust plan\n\n%s\n", plainMarkdown(head))
	if more != "" {
		fmt.Fprintf(&b, "\n%s\n", plainMarkdown(more))
	}
	if changes.b.Len() > 0 {
		fmt.Fprintf(&b, "\n<details%s><summary>Changes</summary>\n\n%s\n</details>\n", open(changes), fence("diff", changes.b.String()))
	}
	if rest.b.Len() > 0 {
		fmt.Fprintf(&b, "\n%s", fence("text", rest.b.String()))
	}
	fmt.Fprintf(&b, "\nPlan of %s UTC for configuration `%s`.\n", pl.Created.UTC().Format("2006-01-02 15:04"), code(short(pl.Configuration)))
	_, err := io.WriteString(w, b.String())
	return err
}

// open shows short changes at once.
func open(p *page) string {
	if strings.Count(p.b.String(), "\n") <= 60 {
		return " open"
	}
	return ""
}

// fence puts text into a block whose fence is longer than any in the text.
func fence(language, text string) string {
	if len(text) > maxMarkdown {
		cut := maxMarkdown
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		if i := strings.LastIndexByte(text[:cut], '\n'); i > 0 {
			cut = i + 1
		}
		text = text[:cut] + "(shortened here: the saved plan has everything)\n"
	}
	longest, run := 2, 0
	for _, r := range text {
		if r == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	marks := strings.Repeat("`", longest+1)
	return marks + language + "\n" + text + marks + "\n"
}

var escaper = strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "#", `\#`, "|", `\|`, "@", "&#64;", "~", `\~`)

// plainMarkdown is text that Markdown shows as it is.
func plainMarkdown(s string) string { return escaper.Replace(s) }

// code is text for a code span.
func code(s string) string { return strings.ReplaceAll(s, "`", "'") }
