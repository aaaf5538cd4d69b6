package inventory

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// apartNote is told where there are several clusters.
const apartNote = "Each cluster gets its own authorities (per = \"cluster\"): who takes over a host can log in to libvirt on the hosts of its own cluster alone, and guests do not migrate to another one. With per = \"fleet\" all clusters share them."

// clusters lists the clusters in the order of their first hosts.
func (o *InitOptions) clusters() []string {
	var out []string
	for _, h := range o.Hosts {
		if !slices.Contains(out, h.Cluster) {
			out = append(out, h.Cluster)
		}
	}
	if len(out) == 0 {
		return []string{o.Cluster}
	}
	return out
}

// login is how hosts are logged in to, as an ssh block has it.
type login struct {
	user, identity string
	port           int
}

func (h *InitHost) login() login {
	l := login{h.User, h.Identity, h.Port}
	if l.user == "root" {
		l.user = ""
	}
	if l.port == 22 {
		l.port = 0
	}
	return l
}

// without drops what a block further out says already. What cannot be taken
// back by leaving it out is said.
func (l login) without(common login) login {
	pick := func(own, outer, otherwise string) string {
		if own == outer {
			return ""
		}
		if own == "" {
			return otherwise
		}
		return own
	}
	out := login{user: pick(l.user, common.user, "root"), identity: pick(l.identity, common.identity, "")}
	switch {
	case l.port == common.port:
	case l.port == 0:
		out.port = 22
	default:
		out.port = l.port
	}
	return out
}

// common is what the logins of all hosts have in common.
func (o *InitOptions) common() login {
	if len(o.Hosts) == 0 {
		return login{}
	}
	c := o.Hosts[0].login()
	for i := range o.Hosts {
		l := o.Hosts[i].login()
		if l.user != c.user {
			c.user = ""
		}
		if l.identity != c.identity {
			c.identity = ""
		}
		if l.port != c.port {
			c.port = 0
		}
	}
	return c
}

func (l login) write(body *hclwrite.Body) {
	if l.user != "" {
		body.SetAttributeValue("user", cty.StringVal(l.user))
		if l.user == "root" {
			body.SetAttributeValue("become", cty.StringVal("none"))
		} else {
			body.SetAttributeValue("become", cty.StringVal("sudo"))
		}
	}
	if l.port != 0 {
		body.SetAttributeValue("port", cty.NumberIntVal(int64(l.port)))
	}
	if l.identity != "" {
		body.SetAttributeValue("identity", cty.ListVal([]cty.Value{cty.StringVal(l.identity)}))
	}
}

func reference(kind, name string) hcl.Traversal {
	return hcl.Traversal{hcl.TraverseRoot{Name: kind}, hcl.TraverseAttr{Name: name}}
}

// inventory is the text of inventory.hcl.
func (o *InitOptions) inventory() []byte {
	f := hclwrite.NewEmptyFile()
	body := f.Body()
	for i, name := range o.clusters() {
		if i > 0 {
			body.AppendNewline()
		}
		c := body.AppendNewBlock("cluster", []string{name}).Body()
		c.SetAttributeTraversal("policy", reference("policy", "standard"))
		if i == 0 {
			c.AppendUnstructuredTokens(comment("# off | available | required: required refuses every migration without TLS"))
		}
		c.SetAttributeValue("migration", cty.StringVal(string(o.Migration)))
	}
	common := o.common()
	if o.KnownHosts != "" || common != (login{}) {
		body.AppendNewline()
		s := body.AppendNewBlock("ssh", nil).Body()
		if o.KnownHosts != "" {
			s.SetAttributeValue("known_hosts", cty.StringVal(o.KnownHosts))
		}
		common.write(s)
	}
	for i := range o.Hosts {
		body.AppendNewline()
		o.Hosts[i].write(body, common)
	}
	return hclwrite.Format(f.Bytes())
}

func (h *InitHost) write(body *hclwrite.Body, common login) {
	b := body.AppendNewBlock("host", []string{h.Name}).Body()
	b.SetAttributeValue("address", cty.StringVal(h.Address))
	b.SetAttributeTraversal("cluster", reference("cluster", h.Cluster))
	if len(h.Labels) > 0 {
		// On one line, as people write them; hclwrite would take one for each.
		var parts []string
		for _, k := range sortedKeys(h.Labels) {
			key := k
			if !hclsyntax.ValidIdentifier(k) {
				key = strconv.Quote(k)
			}
			parts = append(parts, key+" = "+strconv.Quote(h.Labels[k]))
		}
		b.SetAttributeRaw("labels", hclwrite.Tokens{{Type: hclsyntax.TokenIdent, Bytes: []byte("{ " + strings.Join(parts, ", ") + " }")}})
	}
	if len(h.Names) > 0 {
		var names []cty.Value
		for _, n := range h.Names {
			names = append(names, cty.StringVal(n))
		}
		b.SetAttributeValue("names", cty.ListVal(names))
	}
	if own := h.login().without(common); own != (login{}) {
		b.AppendNewline()
		own.write(b.AppendNewBlock("ssh", nil).Body())
	}
}

// policy is the text of policy.hcl.
func (o *InitOptions) policy() []byte {
	f := hclwrite.NewEmptyFile()
	body := f.Body()
	for _, name := range []string{"libvirt", "qemu"} {
		a := body.AppendNewBlock("authority", []string{name}).Body()
		if name == "qemu" {
			a.AppendUnstructuredTokens(comment("# of its own: QEMU processes must not be able to log in to libvirtd"))
		}
		a.SetAttributeValue("organization", cty.StringVal(o.Organization))
		if name == "libvirt" {
			a.AppendUnstructuredTokens(comment("# prompt | env:NAME | file:PATH | command:… (only with --allow-exec)"))
		}
		a.SetAttributeValue("passphrase_from", cty.StringVal("prompt"))
		if len(o.clusters()) > 1 {
			if name == "libvirt" {
				a.AppendUnstructuredTokens(comment("# each cluster its own: who takes over a host cannot log in to another cluster"))
			}
			a.SetAttributeValue("per", cty.StringVal("cluster"))
		}
		body.AppendNewline()
	}
	p := body.AppendNewBlock("policy", []string{"standard"}).Body()
	p.AppendUnstructuredTokens(comment("# virtrust template show libvirt prints what this stands for"))
	p.SetAttributeValue("template", cty.StringVal("libvirt"))
	return hclwrite.Format(f.Bytes())
}

func comment(text string) hclwrite.Tokens {
	return hclwrite.Tokens{{Type: hclsyntax.TokenComment, Bytes: []byte(text + "\n")}}
}
