package main

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/virtrust/virtrust/inventory"
)

// selection is which hosts a command may change.
type selection struct {
	limit   []string
	exclude []string
	// withPeers adds the hosts that conditions name to those that may change.
	withPeers bool
	// named says that limit holds the command's own arguments.
	named bool
}

// hosts applies the selection. A term that matches no host is an error: an
// empty selection must never pass for "nothing to do".
func (s selection) hosts(f *inventory.Fleet) ([]*inventory.Host, error) {
	in, err := matching(f, s.limit)
	if err != nil && s.named {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("--limit: %w", err)
	}
	out, err := matching(f, s.exclude)
	if err != nil {
		return nil, fmt.Errorf("--exclude: %w", err)
	}
	var hosts []*inventory.Host
	for i := range f.Hosts {
		h := &f.Hosts[i]
		if (len(s.limit) == 0 || in[h.Name]) && !out[h.Name] {
			hosts = append(hosts, h)
		}
	}
	if len(f.Hosts) == 0 {
		return nil, &hinted{fmt.Errorf("the configuration in %s has no hosts", f.Dir), "nothing is ever removed because a host is not listed; add host blocks"}
	}
	if len(hosts) == 0 {
		return nil, &hinted{fmt.Errorf("--limit and --exclude leave none of the %d hosts", len(f.Hosts)), "nothing was contacted"}
	}
	return hosts, nil
}

func matching(f *inventory.Fleet, terms []string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, t := range terms {
		if file, ok := strings.CutPrefix(t, "@"); ok {
			more, err := readTerms(file)
			if err != nil {
				return nil, err
			}
			found, err := matching(f, more)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			for n := range found {
				out[n] = true
			}
			continue
		}
		n := 0
		for i := range f.Hosts {
			ok, err := matches(&f.Hosts[i], t)
			if err != nil {
				return nil, err
			}
			if ok {
				out[f.Hosts[i].Name] = true
				n++
			}
		}
		if n == 0 {
			return nil, &hinted{fmt.Errorf("%q matches no host", t), "virtrust show lists the hosts; a term is a name, a glob, cluster:NAME, label:NAME=VALUE or @FILE"}
		}
	}
	return out, nil
}

func matches(h *inventory.Host, term string) (bool, error) {
	if c, ok := strings.CutPrefix(term, "cluster:"); ok {
		return h.Cluster == c, nil
	}
	if l, ok := strings.CutPrefix(term, "label:"); ok {
		k, v, found := strings.Cut(l, "=")
		if !found {
			return false, fmt.Errorf("%q is not label:NAME=VALUE", term)
		}
		have, set := h.Labels[k]
		return set && have == v, nil
	}
	ok, err := path.Match(term, h.Name)
	if err != nil {
		return false, fmt.Errorf("%q is not a name or a glob: %w", term, err)
	}
	return ok, nil
}

// readTerms reads one term a line; # starts a comment. A file cannot name
// another one.
func readTerms(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		l, _, _ := strings.Cut(s.Text(), "#")
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		if strings.HasPrefix(l, "@") {
			return nil, fmt.Errorf("%s names another file: %s", file, l)
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s names no host", file)
	}
	return out, nil
}
