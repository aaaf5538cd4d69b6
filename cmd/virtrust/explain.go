package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/mitchellh/go-wordwrap"
	"github.com/spf13/cobra"

	"github.com/virtrust/virtrust/docs"
	"github.com/virtrust/virtrust/internal/report"
)

func (a *app) explainCmd() *cobra.Command {
	all := docs.Explanations(docs.Troubleshooting)
	return &cobra.Command{
		Use:   "explain [CODE]",
		Short: "Explain the code of a finding or the class of an error",
		Long: `Says what a code means and what to do: the code of a finding in a plan, or the
class of an error of a host. Without one all are listed. The same stands in
docs/troubleshooting.md.`,
		Example: "  virtrust explain unfinished-run\n  virtrust explain host key unknown",
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var out []cobra.Completion
			for _, e := range all {
				if !strings.Contains(e.Code, " ") {
					out = append(out, cobra.CompletionWithDesc(e.Code, e.Brief()))
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listCodes(all)
			}
			code := strings.ToLower(strings.Join(args, " "))
			i := slices.IndexFunc(all, func(e docs.Explanation) bool {
				return e.Code == code || strings.ReplaceAll(e.Code, " ", "-") == code
			})
			if i < 0 {
				return &hinted{fmt.Errorf("there is no code %q", code), nearest(code, all)}
			}
			if a.json {
				return report.JSON(a.out, all[i])
			}
			a.explain(all[i])
			return nil
		},
	}
}

// explain writes one explanation.
func (a *app) explain(e docs.Explanation) {
	kind := "finding about " + e.Topic
	if e.Class {
		kind = "class of errors: " + e.Topic
	}
	fmt.Fprintf(a.out, "%s  (%s)\n", a.strong(e.Code), kind)
	for _, paragraph := range strings.Split(e.Plain(), "\n") {
		if paragraph != "" {
			fmt.Fprintf(a.out, "\n%s\n", a.marked(wordwrap.WrapString(paragraph, uint(min(a.width, 100)))))
		}
	}
}

// listCodes writes all codes with the first sentence of each.
func (a *app) listCodes(all []docs.Explanation) error {
	if a.json {
		return report.JSON(a.out, all)
	}
	wide := 0
	for _, e := range all {
		wide = max(wide, len(e.Code))
	}
	topic := ""
	for _, e := range all {
		if e.Topic != topic {
			if topic != "" {
				fmt.Fprintln(a.out)
			}
			topic = e.Topic
			title := "Findings about " + topic
			if e.Class {
				title = "Classes of errors: " + topic
			}
			fmt.Fprintln(a.out, a.strong(title))
		}
		room := max(20, a.width-wide-4)
		brief := docs.Explanation{Text: e.Brief()}
		for i, l := range strings.Split(wordwrap.WrapString(brief.Plain(), uint(room)), "\n") {
			code := e.Code
			if i > 0 {
				code = ""
			}
			fmt.Fprintf(a.out, "  %-*s  %s\n", wide, code, a.marked(l))
		}
	}
	return nil
}

// strong is a heading, bold on a terminal.
func (a *app) strong(text string) string {
	if !a.options().Color {
		return text
	}
	return "\x1b[1m" + text + "\x1b[0m"
}

// marked shows what stands between backquotes in bold on a terminal, and
// leaves the backquotes elsewhere.
func (a *app) marked(text string) string {
	if !a.options().Color {
		return text
	}
	parts := strings.Split(text, "`")
	for i := 1; i < len(parts); i += 2 {
		// A break inside a span must not make the rest of the line bold.
		lines := strings.Split(parts[i], "\n")
		for j, l := range lines {
			lines[j] = a.strong(l)
		}
		parts[i] = strings.Join(lines, "\n")
	}
	return strings.Join(parts, "")
}

// nearest suggests what was meant by a code that there is not.
func nearest(code string, all []docs.Explanation) string {
	best, least := "", 3+len(code)/4
	for _, e := range all {
		d := levenshtein.Distance(code, e.Code, nil)
		// Half a code is as good as a misspelled one.
		d = min(d, 1+levenshtein.Distance(code, e.Code[:min(len(code), len(e.Code))], nil))
		if strings.Contains(e.Code, code) || strings.Contains(code, e.Code) {
			d = min(d, 2)
		}
		if d < least {
			best, least = e.Code, d
		}
	}
	if best == "" {
		return "virtrust explain lists all codes"
	}
	return "did you mean " + best + "? virtrust explain lists all codes"
}
