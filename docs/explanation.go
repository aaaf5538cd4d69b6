package docs

import (
	"regexp"
	"strings"
)

// Explanation is what the page says about one code of a finding or one class
// of an error.
type Explanation struct {
	Code  string `json:"code"`
	Class bool   `json:"class"` // of an error; else it is a finding's code
	Topic string `json:"topic"` // heading of the part, without its first words
	Text  string `json:"text"`  // Markdown, one line for each paragraph
}

// Brief is the first sentence that says something, up to a colon: not the word
// Holds alone.
func (e Explanation) Brief() string {
	text, _, _ := strings.Cut(e.Text, "\n")
	for _, word := range []string{"Holds. ", "A warning. ", "A warning: "} {
		text = strings.TrimPrefix(text, word)
	}
	if m := sentenceEnd.FindStringIndex(text); m != nil {
		text = text[:m[0]] + "."
	}
	return text
}

// A list after a colon belongs to the whole text.
var sentenceEnd = regexp.MustCompile(`[.?] |: |; `)

// Explanations reads a page of the form of troubleshooting.md: a part begins
// with "# Findings about" or "# Classes:", and each "## " in it is a code. They
// are in the order of the page.
func Explanations(page string) []Explanation {
	var out []Explanation
	topic, class, open := "", false, false
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "# "):
			open = false
			var isFinding bool
			topic, isFinding = strings.CutPrefix(line, "# Findings about ")
			if !isFinding {
				topic, class = strings.CutPrefix(line, "# Classes: ")
			} else {
				class = false
			}
			if !isFinding && !class {
				topic = ""
			}
		case topic != "" && strings.HasPrefix(line, "## "):
			out = append(out, Explanation{Code: strings.TrimPrefix(line, "## "), Class: class, Topic: topic})
			open = true
		case open:
			e := &out[len(out)-1]
			e.Text = strings.TrimLeft(e.Text+"\n"+line, "\n")
		}
	}
	for i := range out {
		out[i].Text = strings.TrimSpace(out[i].Text)
	}
	return out
}

var stressed = regexp.MustCompile(`\*([a-z][a-z ]*)\*`)

var link = regexp.MustCompile(`\[([^\]]*)\]\(([^)]*)\)`)

// Plain is the text without the marks of stress and links: what they lead to stands in
// brackets where it is another page.
func (e Explanation) Plain() string {
	return link.ReplaceAllStringFunc(stressed.ReplaceAllString(e.Text, "$1"), func(s string) string {
		m := link.FindStringSubmatch(s)
		page, _, _ := strings.Cut(m[2], "#")
		if page == "" || m[1] == page {
			return m[1]
		}
		return m[1] + " (docs/" + m[2] + ")"
	})
}
