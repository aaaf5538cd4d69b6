package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Presence is the addresses that a host was found to have on a network.
type Presence struct {
	Host      string
	Network   string
	Addresses []netip.Addr // sorted
}

// Mended is one file of the configuration with other addresses in it.
type Mended struct {
	Name   string // relative to the configuration's directory
	Before []byte
	After  []byte
}

// Mend gives the configuration the addresses that hosts were found to have, in
// place: all else of the files, comments too, stays as it is. Of a network
// with discover = true all addresses are taken, and a nic block is added where
// there is none; of others an address is replaced only where the host lacks
// one that the inventory gives it. What cannot be mended is told, an error for
// each: an address that another host holds, or one that is not written as a
// list of texts in the host's own block.
func (f *Fleet) Mend(found []Presence) ([]Mended, []error) {
	m := mender{fleet: f, files: map[string]*mendedFile{}}
	var problems []error
	for _, p := range found {
		if err := m.mend(p); err != nil {
			problems = append(problems, fmt.Errorf("host %q, network %q: %w", p.Host, p.Network, err))
		}
	}
	var out []Mended
	for _, name := range sortedKeys(m.files) {
		w := m.files[name]
		after := w.file.Bytes()
		if bytes.Equal(hclwrite.Format(w.before), w.before) {
			after = hclwrite.Format(after)
		}
		if !bytes.Equal(after, w.before) {
			out = append(out, Mended{Name: name, Before: w.before, After: after})
		}
	}
	return out, problems
}

// Write puts a mended file in place by one rename. It refuses a file that
// somebody changed since it was read.
func (f *Fleet) Write(m Mended) error {
	p := filepath.Join(f.Dir, m.Name)
	now, err := os.ReadFile(p)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, m.Before) {
		return fmt.Errorf("%s was changed since it was read: nothing was written", m.Name)
	}
	info, err := os.Stat(p)
	if err != nil {
		return err
	}
	// A link stays one: what it leads to is replaced.
	if p, err = filepath.EvalSymlinks(p); err != nil {
		return err
	}
	t, err := os.CreateTemp(filepath.Dir(p), ".virtrust-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(t.Name()) }() // gone already after the rename
	_, err = t.Write(m.After)
	if err == nil {
		err = t.Chmod(info.Mode().Perm())
	}
	if err == nil {
		err = t.Sync()
	}
	if err := errors.Join(err, t.Close()); err != nil {
		return err
	}
	return os.Rename(t.Name(), p)
}

type mendedFile struct {
	before []byte
	file   *hclwrite.File
}

type mender struct {
	fleet *Fleet
	files map[string]*mendedFile
}

func (m *mender) mend(p Presence) error {
	h, ok := m.fleet.Host(p.Host)
	if !ok {
		return errors.New("it is not in the inventory")
	}
	i := slices.IndexFunc(m.fleet.Networks, func(n Network) bool { return n.Name == p.Network })
	if i < 0 {
		return errors.New("it is not in the inventory")
	}
	discover := m.fleet.Networks[i].Discover
	var have []netip.Addr
	nic := slices.IndexFunc(h.Nics, func(n Nic) bool { return n.Network == p.Network })
	if nic >= 0 {
		have = h.Nics[nic].Addresses
	}
	want := wanted(have, p.Addresses, discover)
	if slices.Equal(want, have) {
		return nil
	}
	if len(want) == 0 {
		return errors.New("the host has no address in it: nothing is written for that")
	}
	for _, a := range want {
		if other := m.holder(a, h.Name); other != "" {
			return fmt.Errorf("the host has %s, which the inventory gives to host %q", a, other)
		}
	}
	return m.edit(h, p.Network, nic < 0, want)
}

// wanted keeps the order of what is written.
func wanted(have, found []netip.Addr, discover bool) []netip.Addr {
	var kept []netip.Addr
	for _, a := range have {
		if slices.Contains(found, a) {
			kept = append(kept, a)
		}
	}
	if len(kept) == len(have) && !discover {
		return have
	}
	for _, a := range found {
		if !slices.Contains(kept, a) {
			kept = append(kept, a)
		}
	}
	return kept
}

// holder is another host that the inventory gives an address to.
func (m *mender) holder(a netip.Addr, except string) string {
	for _, h := range m.fleet.Hosts {
		if h.Name == except {
			continue
		}
		if h.Address == a.String() || slices.Contains(h.Names, a.String()) {
			return h.Name
		}
		for _, n := range h.Nics {
			if slices.Contains(n.Addresses, a) {
				return h.Name
			}
		}
	}
	return ""
}

func (m *mender) edit(h *Host, network string, missing bool, want []netip.Addr) error {
	where := h.Source.String()
	if !strings.HasSuffix(h.Source.File, ".hcl") {
		return fmt.Errorf("%s is not HCL's own syntax: write %s there", where, addressList(want))
	}
	f, err := m.open(h.Source.File)
	if err != nil {
		return err
	}
	block := f.Body().FirstMatchingBlock("host", []string{h.Name})
	if block == nil || block.Body().GetAttribute("for_each") != nil {
		return fmt.Errorf("the host is one of for_each at %s: mend what that reads, the addresses are %s", where, addressList(want))
	}
	var body *hclwrite.Body
	for _, b := range block.Body().Blocks() {
		if b.Type() != "nic" || len(b.Labels()) != 1 {
			continue
		}
		named := b.Labels()[0] == network
		if a := b.Body().GetAttribute("network"); a != nil {
			named = strings.TrimSpace(string(a.Expr().BuildTokens(nil).Bytes())) == "network."+network
		}
		if named {
			body = b.Body()
		}
	}
	switch {
	case body == nil && !missing:
		return fmt.Errorf("its nic at %s names the network by an expression: mend it by hand, the addresses are %s", where, addressList(want))
	case body == nil:
		if strings.Trim(network, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			return fmt.Errorf("write a nic block for it at %s, the addresses are %s", where, addressList(want))
		}
		block.Body().AppendNewline()
		body = block.Body().AppendNewBlock("nic", []string{network}).Body()
	default:
		if a := body.GetAttribute("addresses"); a != nil && !literal(a.Expr().BuildTokens(nil).Bytes()) {
			return fmt.Errorf("its addresses are an expression at %s: mend what that reads, they are %s", where, addressList(want))
		}
	}
	var values []cty.Value
	for _, a := range want {
		values = append(values, cty.StringVal(a.String()))
	}
	body.SetAttributeValue("addresses", cty.TupleVal(values))
	return nil
}

func (m *mender) open(name string) (*hclwrite.File, error) {
	if w, ok := m.files[name]; ok {
		return w.file, nil
	}
	src, err := os.ReadFile(filepath.Join(m.fleet.Dir, name))
	if err != nil {
		return nil, err
	}
	file, diags := hclwrite.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, diags
	}
	m.files[name] = &mendedFile{src, file}
	return file, nil
}

// literal tells whether an expression is a list of plain texts with no comment
// in it, so that another such list loses nothing.
func literal(src []byte) bool {
	if bytes.ContainsAny(src, "#") || bytes.Contains(src, []byte("//")) || bytes.Contains(src, []byte("/*")) {
		return false
	}
	e, diags := hclsyntax.ParseExpression(src, "", hcl.InitialPos)
	if diags.HasErrors() {
		return false
	}
	t, ok := e.(*hclsyntax.TupleConsExpr)
	if !ok {
		return false
	}
	for _, x := range t.Exprs {
		v, diags := x.Value(nil)
		if diags.HasErrors() || len(x.Variables()) > 0 || v.Type() != cty.String {
			return false
		}
	}
	return true
}

func addressList(addresses []netip.Addr) string {
	var out []string
	for _, a := range addresses {
		out = append(out, fmt.Sprintf("%q", a))
	}
	return "[" + strings.Join(out, ", ") + "]"
}
