package firewall

import (
	"strings"
	"testing"
)

func openings(places ...string) []Opening {
	out := []Opening{}
	for _, s := range want.Sources {
		o := Opening{Name: want.Name, Ours: true, From: want.From, To: want.To, Source: s}
		if len(places) > 0 {
			o.Place = places[0]
		}
		out = append(out, o)
	}
	return out
}

// Only our lines are added, and taking them out gives the file back.
func TestKeep(t *testing.T) {
	h := host(map[string]string{"managers": "nftables"}, map[string]string{
		nftablesFiles[0]: nftFile, iptablesFiles[0]: savedPlain, ip6tablesFiles[0]: savedPlain,
	})
	for owner, n := range map[Owner]int{Nftables: 1, Iptables: 2, UFW: 0, Firewalld: 0} {
		list := openings(nftPlace)
		files, err := Keep(owner, h, list, nil)
		if err != nil || len(files) != n {
			t.Fatalf("%s: %d files, %v", owner, len(files), err)
		}
		for _, f := range files {
			added := 0
			left := strings.SplitAfter(string(f.Old), "\n")
			for _, l := range strings.SplitAfter(string(f.New), "\n") {
				if len(left) > 0 && l == left[0] {
					left = left[1:]
					continue
				}
				added++
				if !strings.Contains(l, Mark(want.Name)) {
					t.Errorf("%s: %q was added", f.Path, l)
				}
			}
			if len(left) > 0 || added != len(list)/n {
				t.Errorf("%s: %d lines added, missing %q", f.Path, added, left)
			}
			changed := host(nil, map[string]string{f.Path: string(f.New)})
			of := list
			if owner == Iptables {
				of = ofFamily(list, strings.HasSuffix(f.Path, "v4"))
			}
			if again, err := Keep(owner, changed, of, nil); err != nil || len(again) != 0 {
				t.Errorf("%s: added twice: %v %v", f.Path, again, err)
			}
			back, err := Keep(owner, changed, nil, of)
			if err != nil || len(back) != 1 || string(back[0].New) != string(f.Old) {
				t.Errorf("%s: closing does not give the file back: %v", f.Path, err)
			}
		}
	}
}

func TestKeepRefuses(t *testing.T) {
	for _, text := range []string{
		"", "include \"/etc/nftables.d/*.nft\"\n", nftFile + nftFile,
		"table inet filter { chain input { type filter hook input priority 0; policy drop; } }\n",
		strings.Replace(nftFile, "chain input {", "chain other {", 1),
		strings.TrimSuffix(nftFile, "}\n"),
	} {
		if got, err := editNft(text, openings(nftPlace), nil); err == nil {
			t.Errorf("%q became %q", text, got)
		}
	}
	if got, err := editSaved("*nat\n-A INPUT -j ACCEPT\nCOMMIT\n", openings(), nil); err == nil {
		t.Errorf("a file without the filter table became %q", got)
	}
}

func FuzzNft(f *testing.F) {
	f.Add(nftFile)
	f.Add("table filter {\nchain input {\ntype filter hook input priority 0; policy drop;\n}\n}")
	f.Fuzz(func(t *testing.T, text string) {
		list := openings(nftPlace)
		out, err := editNft(text, list, nil)
		if err != nil {
			return
		}
		back, err := editNft(out, nil, list)
		if err != nil {
			t.Fatalf("%q cannot be edited again: %v", out, err)
		}
		if !strings.Contains(text, mark) && back != text {
			t.Errorf("%q came back as %q", text, back)
		}
	})
}

func FuzzSaved(f *testing.F) {
	f.Add(savedPlain)
	f.Add(savedOurs)
	f.Fuzz(func(t *testing.T, text string) {
		readSaved(text).openings("INPUT", true)
		list := ofFamily(openings(), true)
		out, err := editSaved(text, list, nil)
		if err != nil || strings.Contains(text, mark) {
			return
		}
		if back, err := editSaved(out, nil, list); err != nil || back != text {
			t.Errorf("%q came back as %q, %v", text, back, err)
		}
	})
}

// A host's answers are anything at all.
func FuzzLook(f *testing.F) {
	f.Add("firewalld ufw nftables iptables", zoneJSON(zoneOurs), nftJSON(nftOurs+nftWide), savedOurs, ufwTuples, zoneXML)
	f.Fuzz(func(t *testing.T, managers, bus, nft, saved, tuples, xml string) {
		for _, m := range append(strings.Fields(managers), "firewalld", "ufw", "nftables", "iptables") {
			h := host(map[string]string{"managers": m, "default": `{"data":["public"]}`, "active": bus, "zone:public": bus, "nft": nft, "iptables": saved, "ip6tables": saved},
				map[string]string{ufwConf: "ENABLED=yes", ufwRules: tuples, ufwRules6: tuples, firewalldDir + "public.xml": xml, nftablesFiles[0]: tuples, iptablesFiles[0]: saved})
			v := Look(h)
			for _, o := range v.Allowed(want).Missing {
				if o.Source != want.Sources[0] && o.Source != want.Sources[1] {
					t.Errorf("a source that nobody asked for: %v", o)
				}
			}
			for _, o := range v.Stale([]Rule{want}) {
				if !o.Ours || !o.Source.IsValid() {
					t.Errorf("stale and not ours: %v", o)
				}
			}
		}
	})
}
