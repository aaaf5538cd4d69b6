package remote

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

//go:embed firewall.sh
var firewallScript string

// firewallPriority marks our rules in firewalld, which has no comments.
const firewallPriority = 16514

// portStep is one operation on the firewall: the numbers of its rules.
func (s *Session) portStep(st *staged, p plan.Port, closes bool) error {
	if err := checkPort(p); err != nil {
		return err
	}
	n := len(st.rules)
	what := "allow"
	if closes {
		what = "close"
	}
	var sources []string
	for _, src := range p.Sources {
		sources = append(sources, src.Masked().String())
		family := 6
		if src.Addr().Is4() {
			family = 4
		}
		source := src.Masked().String()
		if src.IsSingleIP() {
			source = src.Addr().String()
		}
		st.rules = append(st.rules, fmt.Sprintf("w=%s B=%s P=%s f=%d n=%s s=%s a=%d z=%d",
			what, p.Owner, facts.Quote(p.Place), family, facts.Quote(p.Name), facts.Quote(source), p.From, p.To))
	}
	var numbers []string
	for i := n + 1; i <= len(st.rules); i++ {
		numbers = append(numbers, fmt.Sprint(i))
	}
	// All that undoes it later, when the plan is gone.
	note := fmt.Sprintf("%s %s %s %s from %s", what, p.Name, p.Owner, p.Range(), strings.Join(sources, ","))
	if p.Place != "" {
		note += " at " + p.Place
	}
	st.add(step{kind: "port", path: "port " + note + " " + fmt.Sprint(n), now: strings.Join(numbers, " "), from: note})
	return nil
}

// checkPort refuses what a word of the script could not carry. Plans may come
// from a file.
func checkPort(p plan.Port) error {
	bad := func(what string) error {
		return &Error{Class: ClassConfiguration, Op: "staging", Err: fmt.Errorf("firewall rule %q: %s", p.Name, what)}
	}
	switch {
	case !slices.Contains([]string{"firewalld", "ufw", "nftables", "iptables"}, p.Owner):
		return bad(fmt.Sprintf("%q is not a firewall", p.Owner))
	case p.From == 0 || p.From > p.To:
		return bad("its ports are no range")
	case len(p.Sources) == 0:
		return bad("it has no source")
	case slices.ContainsFunc(p.Sources, func(s netip.Prefix) bool { return !s.IsValid() || s.Addr().Is4In6() }):
		return bad("a source is not a range of addresses")
	}
	if p.Place != "" {
		if err := plainPath(strings.ReplaceAll(p.Place, " ", "_")); err != nil {
			return err
		}
	}
	return plainPath(p.Name)
}

// stageFirewall lays out the script that changes the rules, and the files of
// the owner that keep them.
func (s *Session) stageFirewall(st *staged) error {
	if len(st.rules) == 0 {
		return nil
	}
	var kept []plan.Kept
	if s.cfg.Keep != nil {
		var err error
		if kept, err = s.cfg.Keep(s.ops, s.seen); err != nil {
			return &Error{Class: ClassScript, Host: s.end.label(), Op: "staging the firewall", Err: err, Hint: "make a new plan"}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# virtrust: the firewall rules of run %s.\nD=%s priority=%d\nrule() {\n\tcase $1 in\n", s.cfg.Run, facts.Quote(s.runDir()), firewallPriority)
	var numbers []string
	for i, r := range st.rules {
		fmt.Fprintf(&b, "\t%d) %s ;;\n", i+1, r)
		numbers = append(numbers, fmt.Sprint(i+1))
	}
	fmt.Fprintf(&b, "\tesac\n}\nrules=%s\nfiles() {\n\t:\n", facts.Quote(strings.Join(numbers, " ")))
	for i, k := range kept {
		if err := plainPath(k.Path); err != nil {
			return err
		}
		p := path.Join(s.runDir(), fmt.Sprintf("keep-%d", i+1))
		st.files = append(st.files, Upload{Path: p, Mode: 0o600, Content: k.Content})
		st.sums[p] = plan.Digest(k.Content)
		fmt.Fprintf(&b, "\t\"$1\" %d %s %s\n", i+1, facts.Quote(k.Path), k.Before)
	}
	b.WriteString("}\n")
	b.WriteString(firewallScript)
	p := path.Join(s.runDir(), "firewall.sh")
	st.files = append(st.files, Upload{Path: p, Mode: 0o600, Content: []byte(b.String())})
	st.sums[p] = plan.Digest([]byte(b.String()))
	return nil
}

// changesFirewall reports whether the plan changes who may connect.
func (s *Session) changesFirewall() bool { return s.staged != nil && len(s.staged.rules) > 0 }

// newLogin opens a second connection: the one in use was let in before the
// change and proves nothing.
func (s *Session) newLogin(ctx context.Context) error {
	fail := func(err error) error {
		return &Error{Class: ClassProof, Host: s.end.label(), Op: "proving", Err: fmt.Errorf("a new SSH login does not work any more: %w", err), Hint: "the rules are taken back; look at the host's firewall"}
	}
	c, err := s.dialer.Connect(ctx, s.end)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = c.Close() }()
	out, err := c.Run(ctx, []byte(":\n"), Limits{})
	if err == nil && out.Exit != 0 {
		err = errors.New("the login ends at once")
	}
	if err != nil {
		return fail(err)
	}
	return nil
}
