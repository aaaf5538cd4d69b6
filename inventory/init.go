package inventory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// InitOptions say what a first configuration is about.
type InitOptions struct {
	Hosts        []InitHost
	Cluster      string // name of the cluster; "" means rack1
	Organization string // of the authority; "" means Example
	KnownHosts   string // path for the ssh block; "" leaves the block out
}

// InitHost is one host of a first configuration.
type InitHost struct {
	Name    string // [a-z0-9-]
	Address string // a name or an IP; "" means Name
}

// Init writes inventory.hcl, policy.hcl and .gitignore into a directory,
// which is made if it is missing, and names what it wrote. It never
// overwrites: when inventory.hcl or policy.hcl exists it writes nothing and the
// error names it; a .gitignore that exists is left as it is. What it wrote
// loads without errors; options that would not are refused before anything is
// written.
func Init(dir string, opts InitOptions) ([]string, error) {
	if opts.Cluster == "" {
		opts.Cluster = "rack1"
	}
	if opts.Organization == "" {
		opts.Organization = "Example"
	}
	if err := opts.check(); err != nil {
		return nil, fmt.Errorf("writing a first configuration: %w", err)
	}
	files := []struct {
		name string
		text []byte
	}{
		{"inventory.hcl", opts.inventory()},
		{"policy.hcl", opts.policy()},
		{ignoreFile, []byte(".virtrust/\n")},
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: a configuration that others may read
		return nil, fmt.Errorf("writing a first configuration: %w", err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if _, err := os.Lstat(path); err == nil && f.name == ignoreFile {
			continue
		} else if err == nil {
			return nil, fmt.Errorf("writing a first configuration: %s exists already; remove it or choose another directory", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("writing a first configuration: %w", err)
		}
	}
	var wrote []string
	for _, f := range files {
		err := writeNew(filepath.Join(dir, f.name), f.text)
		if errors.Is(err, fs.ErrExist) && f.name == ignoreFile {
			continue
		}
		if err != nil {
			return wrote, fmt.Errorf("writing a first configuration: %w", err)
		}
		wrote = append(wrote, f.name)
	}
	return wrote, nil
}

// ignoreFile keeps the ledger out of version control.
const ignoreFile = ".gitignore"

// writeNew makes a file that must not exist yet.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // G302: a configuration that others may read
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func (o *InitOptions) check() error {
	if !plainName.MatchString(o.Cluster) || o.Cluster[0] <= '9' {
		return fmt.Errorf("the cluster's name %q is unfit: use a-z, 0-9 and -, beginning with a letter", o.Cluster)
	}
	if err := checkOrganization(o.Organization, "libvirt"); err != nil {
		return fmt.Errorf("the organization is unfit: %w", err)
	}
	if strings.ContainsFunc(o.KnownHosts, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return errors.New("the path of known_hosts holds a control character")
	}
	owners := map[string]string{}
	for i := range o.Hosts {
		h := &o.Hosts[i]
		if h.Address == "" {
			h.Address = h.Name
		}
		if !plainName.MatchString(h.Name) {
			return fmt.Errorf("the host's name %q is unfit: use a-z, 0-9 and -", h.Name)
		}
		if problem := checkHostAddress(h.Address); problem != "" {
			return fmt.Errorf("the address %q of host %s is unfit: %s", h.Address, h.Name, problem)
		}
		for _, key := range []string{"host " + h.Name, "address " + strings.ToLower(h.Address)} {
			if first, twice := owners[key]; twice {
				return fmt.Errorf("%s belongs to two hosts, %s and %s", strings.TrimPrefix(key, "address "), first, h.Name)
			}
			owners[key] = h.Name
		}
	}
	return nil
}

func reference(kind, name string) hcl.Traversal {
	return hcl.Traversal{hcl.TraverseRoot{Name: kind}, hcl.TraverseAttr{Name: name}}
}

func (o *InitOptions) inventory() []byte {
	f := hclwrite.NewEmptyFile()
	body := f.Body()
	c := body.AppendNewBlock("cluster", []string{o.Cluster}).Body()
	c.SetAttributeTraversal("policy", reference("policy", "standard"))
	c.AppendUnstructuredTokens(comment("# off | available | required: required refuses every migration without TLS"))
	c.SetAttributeValue("migration", cty.StringVal(string(MigrationAvailable)))
	if o.KnownHosts != "" {
		body.AppendNewline()
		s := body.AppendNewBlock("ssh", nil).Body()
		s.SetAttributeValue("known_hosts", cty.StringVal(o.KnownHosts))
	}
	for _, h := range o.Hosts {
		body.AppendNewline()
		b := body.AppendNewBlock("host", []string{h.Name}).Body()
		b.SetAttributeValue("address", cty.StringVal(h.Address))
		b.SetAttributeTraversal("cluster", reference("cluster", o.Cluster))
	}
	return hclwrite.Format(f.Bytes())
}

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
