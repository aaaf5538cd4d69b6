package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	counters = regexp.MustCompile(` ?\[\d+:\d+\]`)
	source   = regexp.MustCompile(`(?:saddr|-s) (\S+)`)
	network  = regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+/\d+\b`)
)

// keptFilesOfWalls are what a reboot reads.
var keptFilesOfWalls = []string{"/etc/nftables.conf", "/etc/iptables/rules.v4", "/etc/iptables/rules.v6", "/etc/ufw/user.rules", "/etc/ufw/user6.rules", "/etc/ufw/ufw.conf", "/etc/firewalld/zones/*.xml"}

// wallLines is the live rule set, each line with the chain that it stands in.
func wallLines(kind string) ([]string, error) {
	list := [][]string{{"nft", "-s", "list", "ruleset"}}
	switch kind {
	case "", "off":
		return nil, nil
	case "ufw", "iptables":
		list = [][]string{{"iptables-save"}, {"ip6tables-save"}}
	}
	var out []string
	for _, c := range list {
		text, err := exec.Command(c[0], c[1:]...).Output()
		if err != nil {
			return nil, err
		}
		head := ""
		for l := range strings.Lines(string(text)) {
			l = strings.TrimSpace(counters.ReplaceAllString(l, ""))
			switch {
			case l == "", l == "}", strings.HasPrefix(l, "#"), strings.Contains(l, "-caps-test"):
				continue // ufw asks the kernel what it can with chains that nothing leads to
			case strings.HasPrefix(l, "table "), strings.HasPrefix(l, "*"):
				head = l
			case strings.HasPrefix(l, "chain "):
				t, _, _ := strings.Cut(head, "{")
				head = t + "{ " + l
			}
			out = append(out, c[0]+" "+head+" "+l)
		}
	}
	slices.Sort(out)
	return out, nil
}

// doors are the sources that get in on the managed port, and all other rules.
func doors(lines []string) (sources map[string]bool, others string) {
	sources = map[string]bool{}
	var rest []string
	for _, l := range lines {
		if !strings.Contains(l, "16514") {
			rest = append(rest, l)
			continue
		}
		s := "anywhere"
		if m := source.FindStringSubmatch(l); m != nil {
			s = m[1]
		}
		if !strings.Contains(strings.ToLower(l), "accept") {
			s = "not accepted: " + l
		}
		sources[s] = true
	}
	return sources, strings.Join(rest, "\n")
}

// wall is how the firewall stands.
type wall struct {
	Live []string `json:"live"` // sources that get in on the managed port
	Kept []string `json:"kept"` // networks in the files that a reboot reads
}

func lookAtWall(kind string) (w wall, err error) {
	lines, err := wallLines(kind)
	if err != nil {
		return w, err
	}
	s, _ := doors(lines)
	w.Live = slices.Sorted(maps.Keys(s))
	for _, pattern := range keptFilesOfWalls {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			b, _ := os.ReadFile(f)
			w.Kept = append(w.Kept, network.FindAllString(string(b), -1)...)
		}
	}
	slices.Sort(w.Kept)
	w.Kept = slices.Compact(w.Kept)
	return w, nil
}

// walls is O5: at each moment the managed port is open to what was let in
// before or is let in after, what both have is never shut out, and no other
// rule comes or goes.
func (w *watch) walls(first func()) {
	var moments []map[string]bool
	var last []string
	var others string
	look := func() {
		lines, err := wallLines(w.Wall)
		if err != nil {
			w.violate("O5", "the rules cannot be listed: %v", err)
			return
		}
		w.mu.Lock()
		w.rep.Walls++
		w.mu.Unlock()
		if moments != nil && slices.Equal(lines, last) {
			return
		}
		s, rest := doors(lines)
		if moments == nil {
			others = rest
		} else if rest != others {
			w.violate("O5", "rules of others changed: %s", lineDiff(others, rest))
		}
		last = lines
		moments = append(moments, s)
	}
	look()
	first()
	for !w.stopped() {
		for i := 0; i < 10 && !w.stopped(); i++ {
			time.Sleep(w.every(20 * time.Millisecond))
		}
		look()
	}
	if moments == nil {
		return
	}
	before, after := moments[0], moments[len(moments)-1]
	for _, m := range moments {
		for s := range m {
			if !before[s] && !after[s] {
				w.violate("O5", "the port was open to %s, which neither the old nor the new state lets in", s)
			}
		}
		for s := range before {
			if after[s] && !m[s] {
				w.violate("O5", "the port was closed to %s, which the old and the new state let in", s)
			}
		}
	}
}

func lineDiff(a, b string) string {
	was, is := strings.Split(a, "\n"), strings.Split(b, "\n")
	var out []string
	for _, l := range was {
		if !slices.Contains(is, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range is {
		if !slices.Contains(was, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out[:min(len(out), 6)], "; ")
}
