package report

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/charmbracelet/lipgloss"

	"github.com/virtrust/virtrust/plan"
)

// notice is a finding or a failure on its way to the page.
type notice struct {
	severity         plan.Severity // empty where it says nothing
	code             string        // a finding's code or a failure's class
	host, text, hint string
}

// maxCodes is how many codes of a large plan or report have all their texts;
// of more each has one, and no hint.
const maxCodes = 6

// codeLike is a code of a finding or a class of an error, and the step of one.
var codeLike = regexp.MustCompile(`^[a-z]+(?:[- ][a-z]+)*(?:, at .*)?$`)

// maxTexts is how many texts of one code a page shows unless it is verbose.
const maxTexts = 3

var severityRank = map[plan.Severity]int{plan.Problem: 0, plan.Warning: 1, plan.Note: 2}

// subject is the notices of one code.
type subject struct {
	severity plan.Severity
	code     string
	hosts    []string // in the order of the notices
	named    map[string]bool
	topics   []*topic
}

// topic is the notices of one code that say the same.
type topic struct {
	texts, hints []string
	owns         []own
	hosts        map[string]bool
}

func (t *topic) hint() string { return join(t.hints, t.owns, 2*SafeRunes) }

// notices writes each code once: the hosts, what is the matter, what to do.
func (p *page) notices(title string, list []notice) {
	if len(list) == 0 {
		return
	}
	var heads []*subject
	bySubject := map[string]*subject{}
	byForm := map[string]*topic{}
	for _, n := range list {
		id := string(n.severity) + "\x01" + n.code
		s := bySubject[id]
		if s == nil {
			s = &subject{severity: n.severity, code: n.code, named: map[string]bool{}}
			bySubject[id] = s
			heads = append(heads, s)
		}
		o := own{host: n.host}
		text, _ := o.general(n.text)
		hint, _ := o.general(n.hint)
		// A text that names several hosts is the same only as it stands.
		same, form := id+"\x01"+n.text+"\x01"+n.hint, id+"\x02"+text+"\x01"+hint
		t := byForm[same]
		if t == nil {
			t = byForm[form]
		}
		if t == nil {
			t = &topic{hosts: map[string]bool{}}
			s.topics = append(s.topics, t)
		}
		byForm[same], byForm[form] = t, t
		t.texts, t.hints, t.owns = append(t.texts, n.text), append(t.hints, n.hint), append(t.owns, o)
		if n.host != "" {
			t.hosts[n.host] = true
			if !s.named[n.host] {
				s.named[n.host] = true
				s.hosts = append(s.hosts, n.host)
			}
		}
	}
	slices.SortStableFunc(heads, func(a, b *subject) int { return cmp.Compare(severityRank[a.severity], severityRank[b.severity]) })
	if c := heads[0]; p.code == "" && c.severity != "" && codeLike.MatchString(c.code) {
		p.code, _, _ = strings.Cut(c.code, ",")
	}
	p.gap()
	p.linef("%s", p.strong.Render(title))
	terse := p.large && len(heads) > maxCodes
	for _, s := range heads {
		p.subject(s, terse)
	}
}

// subject writes one code.
func (p *page) subject(s *subject, terse bool) {
	mark, style := "  ", (*lipgloss.Style)(nil)
	switch s.severity {
	case plan.Problem:
		mark, style = "  problem  ", &p.bad
	case plan.Warning:
		mark, style = "  warning  ", &p.careful
	case plan.Note:
		mark = "  note     "
	}
	title := Safe(s.code)
	if len(s.hosts) > 0 {
		title += ": " + hostList(s.hosts, p.Verbose)
	}
	p.hang(mark, title, style)
	slices.SortStableFunc(s.topics, func(a, b *topic) int { return -cmp.Compare(len(a.hosts), len(b.hosts)) })
	shown := s.topics
	switch {
	case p.Verbose:
	case terse:
		shown = shown[:1]
	case len(shown) > maxTexts:
		shown = shown[:maxTexts]
	}
	first, oneHint := s.topics[0].hint(), true
	for _, t := range s.topics {
		oneHint = oneHint && t.hint() == first
	}
	for _, t := range shown {
		text := join(t.texts, t.owns, 2*SafeRunes)
		if len(s.topics) > 1 && len(t.hosts) > 0 && len(t.hosts) < len(s.hosts) {
			hosts := slices.DeleteFunc(slices.Clone(s.hosts), func(h string) bool { return !t.hosts[h] })
			text = hostList(hosts, p.Verbose) + ": " + text
		}
		if terse && len(s.topics) > 1 {
			text = join(t.texts, t.owns, 2*SafeRunes) + ", and more like this"
		}
		p.hang("    ", text, nil)
		if !oneHint && !terse {
			p.hint(t.hint())
		}
	}
	if n := len(s.topics) - len(shown); n > 0 && !terse {
		p.linef("    and %d more like these (all with --verbose)", n)
	}
	if oneHint && !terse {
		p.hint(first)
	}
}

func (p *page) hint(text string) {
	if text != "" {
		p.hang("    hint: ", text, &p.quiet)
	}
}
