package report

import (
	"regexp"
	"strings"

	"github.com/virtrust/virtrust/plan"
)

// own is what belongs to one host alone: its name, and the names and
// addresses of its certificates, old and new. Two hosts have the same change
// when their texts are equal but for these and for dates.
type own struct {
	host  string
	words map[string]string // to their stand-ins
}

// Stand-ins for what is a host's own. They hold a control character, which no
// text has that went through Safe.
const (
	ownHost    = "\x00H"
	ownName    = "\x00N"
	ownAddress = "\x00A"
	ownDate    = "\x00D"
)

var standIns = strings.NewReplacer(ownHost, "HOST", ownName, "NAME", ownAddress, "ADDRESS")

func ownOf(h *plan.HostPlan) own {
	o := own{host: h.Host, words: map[string]string{}}
	for _, op := range h.Ops {
		e, ok := op.(plan.Enrol)
		if !ok {
			continue
		}
		for _, n := range e.Profile.DNSNames {
			o.words[n] = ownName
		}
		for _, a := range e.Profile.IPs {
			o.words[a.String()] = ownAddress
		}
		if e.Old != nil {
			for _, n := range e.Old.DNSNames {
				o.words[n] = ownName
			}
			for _, a := range e.Old.IPs {
				o.words[a.String()] = ownAddress
			}
		}
		if e.Profile.CommonName != "" {
			o.words[e.Profile.CommonName] = ownHost
		}
	}
	// Names below the host's own keep their rest, so that one that lacks the
	// name of a network is another change.
	for n := range o.words {
		if strings.HasPrefix(n, h.Host+".") || strings.HasPrefix(n, h.Host+"-") {
			delete(o.words, n)
		}
	}
	return o
}

var (
	word = regexp.MustCompile(`[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?`)
	date = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:]+Z?)?$`)
)

// general is the text with stand-ins for the host's own words and for dates,
// and the dates in their order. It is safe, and not cut: texts that differ
// far behind are different changes.
func (o own) general(s string) (text string, dates []string) {
	s = SafeN(s, 0)
	text = word.ReplaceAllStringFunc(s, func(w string) string {
		if date.MatchString(w) {
			dates = append(dates, w)
			return ownDate
		}
		if as, ok := o.words[w]; ok {
			return as
		}
		if rest, ok := strings.CutPrefix(w, o.host); ok && o.host != "" && (rest == "" || strings.ContainsAny(rest[:1], ".-:")) {
			return ownHost + rest
		}
		if i := strings.LastIndexByte(w, ':'); i > 0 {
			if as, ok := o.words[w[:i]]; ok {
				return as + w[i:]
			}
		}
		return w
	})
	return text, dates
}

// digest is the same for contents that differ in the hosts' own words only.
func (o own) digest(content []byte) string {
	s := string(content)
	found := strings.Contains(s, o.host)
	for w := range o.words {
		found = found || strings.Contains(s, w)
	}
	if found {
		s, _ = o.general(s)
	}
	return plan.Digest([]byte(s))
}

// join is one text for all hosts of a group: the text itself where it is the
// same for all, else with HOST, NAME and ADDRESS for what is a host's own and
// with the first and last of the dates.
func join(texts []string, owns []own, limit int) string {
	same := true
	for _, t := range texts {
		same = same && t == texts[0]
	}
	if same || len(texts) == 0 {
		if len(texts) == 0 {
			return ""
		}
		return SafeN(texts[0], limit)
	}
	form, first := owns[0].general(texts[0])
	last := append([]string(nil), first...)
	for i := 1; i < len(texts); i++ {
		_, dates := owns[i].general(texts[i])
		for j := range min(len(dates), len(first)) {
			first[j], last[j] = min(first[j], dates[j]), max(last[j], dates[j])
		}
	}
	for j := range first {
		text := first[j]
		if last[j] != first[j] {
			text += ".." + last[j]
		}
		form = strings.Replace(form, ownDate, text, 1)
	}
	return SafeN(standIns.Replace(form), limit)
}
