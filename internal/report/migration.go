package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
)

// PeerRow is how a guest gets from one host to another.
type PeerRow struct {
	Cluster        string   `json:"cluster,omitempty"`
	From           string   `json:"from"`
	To             string   `json:"to"`
	Possible       bool     `json:"possible"` // a migration in accord with policy and hosts
	TLS            bool     `json:"tls"`      // encrypted
	Policy         string   `json:"policy"`   // off, available, required
	URI            string   `json:"uri,omitempty"`
	MigrateURI     string   `json:"migrate_uri,omitempty"`
	TLSDestination string   `json:"tls_destination,omitempty"`
	Ports          string   `json:"ports,omitempty"`   // on the destination, MIN-MAX
	Options        []string `json:"options,omitempty"` // of virsh migrate, before domain and URI
	Why            []string `json:"why,omitempty"`     // why not, or why not encrypted
}

// Peers writes the routes between hosts. The error is the writer's.
func Peers(w io.Writer, rows []PeerRow, o Options) error {
	p := newPage(o)
	byCluster := map[string][]PeerRow{}
	var order []string
	for _, r := range rows {
		if byCluster[r.Cluster] == nil {
			order = append(order, r.Cluster)
		}
		byCluster[r.Cluster] = append(byCluster[r.Cluster], r)
	}
	encrypted, possible := 0, 0
	for _, c := range order {
		p.gap()
		if c != "" {
			p.linef("%s", p.strong.Render("Cluster "+Safe(c)+":"))
		}
		list := byCluster[c]
		columns := []column{{title: "  from"}, {title: "to"}, {title: "migration"}, {title: "URI"}, {title: "memory goes to"}, {title: "checked as"}}
		for _, r := range list {
			state := "no"
			switch {
			case r.TLS:
				state = "TLS"
				encrypted++
			case r.Possible:
				state = "in clear"
			}
			if r.Possible {
				possible++
			}
			for i, s := range []string{"  " + SafeN(r.From, 40), SafeN(r.To, 40), state, SafeN(r.URI, 80), cmp.Or(SafeN(r.MigrateURI, 60), "as "+SafeN(r.To, 40)+" says"), cmp.Or(SafeN(r.TLSDestination, 60), "-")} {
				columns[i].cells = append(columns[i].cells, s)
			}
		}
		columns[2].style = func(i int) *lipgloss.Style {
			switch {
			case list[i].TLS:
				return &p.good
			case list[i].Possible:
				return &p.careful
			}
			return &p.bad
		}
		// The URI follows from the host's address; it goes first where the
		// page is narrow.
		if wide := tableWidth(columns); wide > p.Width {
			columns = append(columns[:3:3], columns[4:]...)
		}
		p.table(columns, len(list))
	}
	p.whys(rows)
	p.gap()
	p.linef("%d of %s can encrypt, %d can migrate.", encrypted, count(len(rows), "pair"), possible)
	return p.flush(w)
}

func tableWidth(columns []column) int {
	wide := 0
	for _, c := range columns {
		w := lipgloss.Width(c.title)
		for _, s := range c.cells {
			w = max(w, lipgloss.Width(s))
		}
		wide += w + 2
	}
	return wide
}

// whys writes each reason once with the pairs that it concerns.
func (p *page) whys(rows []PeerRow) {
	pairs := map[string][]string{}
	var order []string
	for _, r := range rows {
		for _, y := range r.Why {
			if pairs[y] == nil {
				order = append(order, y)
			}
			pairs[y] = append(pairs[y], SafeN(r.From, 40)+" to "+SafeN(r.To, 40))
		}
	}
	if len(order) == 0 {
		return
	}
	p.gap()
	p.linef("%s", p.strong.Render("Not encrypted, because:"))
	for _, y := range order {
		list := pairs[y]
		more := ""
		if len(list) > 6 {
			more = fmt.Sprintf(" and %d more", len(list)-6)
			list = list[:6]
		}
		p.hang("  ! ", SafeN(y, 400)+" ("+strings.Join(list, ", ")+more+")", &p.careful)
	}
}

// The results of a migration.
const (
	MigrationMoved   = "moved"   // the guest runs on To
	MigrationStayed  = "stayed"  // it runs on From
	MigrationUnknown = "unknown" // neither host could be asked, or neither has it
)

// MigrationRow is what came of moving one guest.
type MigrationRow struct {
	Guest      string            `json:"guest"`
	UUID       string            `json:"uuid,omitempty"`
	From       string            `json:"from"`
	To         string            `json:"to"`
	TLS        bool              `json:"tls"`
	Command    string            `json:"command"` // what ran on From
	Result     string            `json:"result"`
	RunsOn     []string          `json:"runs_on"`           // hosts whose libvirt says that it runs
	Persistent bool              `json:"persistent"`        // defined on the host, and so kept
	Stopped    string            `json:"stopped,omitempty"` // "limit" or "asked" when the job was ended
	Seconds    float64           `json:"seconds"`           // that virsh took
	Statistics map[string]string `json:"statistics,omitempty"`
	Text       string            `json:"text,omitempty"`
	Hint       string            `json:"hint,omitempty"`
}

// Migration writes what came of a migration. The error is the writer's.
func Migration(w io.Writer, r MigrationRow, o Options) error {
	p := newPage(o)
	guest, from, to := SafeN(r.Guest, 60), SafeN(r.From, 60), SafeN(r.To, 60)
	how := "in clear"
	if r.TLS {
		how = "encrypted"
	}
	switch r.Result {
	case MigrationMoved:
		text := fmt.Sprintf("%s runs on %s and no more on %s; moved %s in %.1f s", guest, to, from, how, r.Seconds)
		var more []string
		for _, k := range []string{"Data processed", "Total downtime"} {
			if v := r.Statistics[k]; v != "" {
				more = append(more, strings.ToLower(k)+" "+strings.Join(strings.Fields(SafeN(v, 30)), " "))
			}
		}
		if len(more) > 0 {
			text += " (" + strings.Join(more, ", ") + ")"
		}
		p.hang("Moved: ", text+".", &p.good)
	case MigrationStayed:
		p.hang("Not moved: ", fmt.Sprintf("%s runs on %s as before.", guest, from), &p.careful)
	default:
		text := fmt.Sprintf("%s could not be found running on one host alone", guest)
		if len(r.RunsOn) > 0 {
			text = guest + " is on " + Safe(strings.Join(r.RunsOn, ", "))
		}
		p.hang("Unknown: ", text+".", &p.bad)
	}
	if r.Stopped == "limit" {
		p.hang("  ", "The time limit was over, and the job was ended on the host.", nil)
	}
	if r.Text != "" {
		p.hang("  ", SafeN(r.Text, 400), nil)
	}
	if r.Hint != "" {
		p.hang("  hint: ", Safe(r.Hint), &p.quiet)
	}
	return p.flush(w)
}

// Leg is one migration of a proof.
type Leg struct {
	From     string  `json:"from"`
	To       string  `json:"to"`
	TLS      bool    `json:"tls"`
	OK       bool    `json:"ok"`                 // it ended as it should
	Creds    string  `json:"creds,omitempty"`    // tls-creds that the monitor showed while the job ran
	Hostname string  `json:"hostname,omitempty"` // tls-hostname, likewise
	Seconds  float64 `json:"seconds"`
	Slowed   bool    `json:"slowed,omitempty"` // so that the monitor could be read
	Text     string  `json:"text,omitempty"`
}

// ProofRow is the proof of migrations between two hosts, both ways.
type ProofRow struct {
	From    string `json:"from"`
	To      string `json:"to"`
	OK      bool   `json:"ok"`
	Machine string `json:"machine,omitempty"`
	Policy  string `json:"policy"`
	// PlainRefused tells that a migration without TLS was tried and refused;
	// it is tried where the policy demands encryption.
	PlainRefused bool    `json:"plain_refused,omitempty"`
	SecondsTLS   float64 `json:"seconds_tls,omitempty"`
	SecondsPlain float64 `json:"seconds_plain,omitempty"` // 0 where policy forbids it
	Legs         []Leg   `json:"legs,omitempty"`
	Text         string  `json:"text,omitempty"` // why it is not proved
	Hint         string  `json:"hint,omitempty"`
}

// Proofs writes what migrations proved. The error is the writer's.
func Proofs(w io.Writer, rows []ProofRow, o Options) error {
	p := newPage(o)
	p.linef("%s", p.strong.Render("Encrypted migration of a throw-away guest:"))
	good := 0
	for _, r := range rows {
		pair := SafeN(r.From, 60) + " <-> " + SafeN(r.To, 60)
		if !r.OK {
			p.hang("  FAIL  ", pair+": "+SafeN(r.Text, 400), &p.bad)
			if r.Hint != "" {
				p.hang("        hint: ", Safe(r.Hint), &p.quiet)
			}
			continue
		}
		good++
		text := pair + ": TLS both ways"
		for _, l := range r.Legs {
			if l.Creds != "" {
				text += fmt.Sprintf(", the monitor of %s shows %s", SafeN(l.From, 60), SafeN(l.Creds, 60))
			}
		}
		text += fmt.Sprintf("; %.1f s with TLS", r.SecondsTLS)
		switch {
		case r.SecondsPlain > 0:
			text += fmt.Sprintf(", %.1f s without", r.SecondsPlain)
		case r.PlainRefused:
			text += "; without TLS it is refused"
		}
		p.hang("  ok    ", text+" ("+SafeN(r.Machine, 40)+")", &p.good)
	}
	p.gap()
	head, style := "Proved: ", &p.good
	if good < len(rows) {
		head, style = "Not proved: ", &p.bad
	}
	if len(rows) == 0 {
		p.hang("Nothing was proved: ", "no cluster has two hosts that could be asked.", &p.bad)
		return p.flush(w)
	}
	p.hang(head, fmt.Sprintf("%d of %s.", good, count(len(rows), "pair")), style)
	return p.flush(w)
}

// MigrationProgress is one line of how far a migration is, from libvirt's
// statistics; "" where they say nothing yet.
func MigrationProgress(guest string, job map[string]string, since time.Duration) string {
	var parts []string
	for _, k := range []string{"Data processed", "Data remaining", "Memory bandwidth", "Dirty rate", "Iteration", "Auto converge throttle"} {
		if v := job[k]; v != "" {
			parts = append(parts, strings.ToLower(k)+" "+strings.Join(strings.Fields(SafeN(v, 30)), " "))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("%s, %d s: %s", SafeN(guest, 60), int(since.Seconds()), strings.Join(parts, ", "))
}
