package inventory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// InitOptions say what a first configuration is about.
type InitOptions struct {
	Hosts        []InitHost
	Cluster      string    // of the hosts that name none; "" means rack1
	Organization string    // of the authority; "" means Example
	Migration    Migration // of the clusters; "" means available
	KnownHosts   string    // path for the ssh block; "" leaves it out
}

// InitHost is one host of a first configuration.
type InitHost struct {
	Name     string   // [a-z0-9-]
	Address  string   // a name or an IP; "" means Name
	Cluster  string   // "" means that of the options
	Names    []string // further names of its certificates
	Labels   map[string]string
	Port     int    // 0 means 22
	User     string // "" means root
	Identity string // path of a key; "" means the agent and the usual files
}

// Draft is a first configuration that is not written yet.
type Draft struct {
	Files []DraftFile // in the order in which they are read best
	// Notes tell what of the options is not in the files, and what to know of
	// them, a sentence each.
	Notes []string
}

// DraftFile is one file of a draft.
type DraftFile struct {
	Name string
	Text []byte
}

// Init drafts and writes inventory.hcl, policy.hcl and .gitignore into a
// directory, which is made if it is missing, and names what it wrote. It never
// overwrites: when inventory.hcl or policy.hcl exists it writes nothing and the
// error names it; a .gitignore that exists is left as it is.
func Init(dir string, opts InitOptions) ([]string, error) {
	d, err := NewDraft(opts)
	if err != nil {
		return nil, err
	}
	return d.Write(dir)
}

// NewDraft makes a first configuration. It loads without errors: options that
// would not are refused, and the error says which.
func NewDraft(o InitOptions) (*Draft, error) {
	if o.Cluster == "" {
		o.Cluster = "rack1"
	}
	if o.Organization == "" {
		o.Organization = "Example"
	}
	if o.Migration == "" {
		o.Migration = MigrationAvailable
	}
	d := &Draft{}
	o.Hosts = slices.Clone(o.Hosts)
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("a first configuration: %w", err)
	}
	d.Notes = o.refuseLater()
	if len(o.clusters()) > 1 {
		d.Notes = append(d.Notes, apartNote)
	}
	d.Files = []DraftFile{{"inventory.hcl", o.inventory()}, {"policy.hcl", o.policy()}, {ignoreFile, []byte(".virtrust/\n")}}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("a first configuration: %w", err)
	}
	return d, nil
}

// check loads the draft as validate would.
func (d *Draft) check() error {
	dir, err := os.MkdirTemp("", "virtrust-init-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // only ours was in it
	if _, err := d.Write(dir); err != nil {
		return err
	}
	_, diags := Load(dir, Options{})
	for _, x := range diags.All() {
		if x.Severity == SeverityError {
			return fmt.Errorf("%s: %s", x.Summary, x.Detail)
		}
	}
	return nil
}

// Vacant says whether a first configuration can be written into a directory:
// the error names a file that is in the way.
func Vacant(dir string) error {
	for _, name := range []string{"inventory.hcl", "policy.hcl"} {
		path := filepath.Join(dir, name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("writing a first configuration: %s exists already; remove it or choose another directory", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("writing a first configuration: %w", err)
		}
	}
	return nil
}

// Write writes the files as Init does.
func (d *Draft) Write(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: a configuration that others may read
		return nil, fmt.Errorf("writing a first configuration: %w", err)
	}
	if err := Vacant(dir); err != nil {
		return nil, err
	}
	var wrote []string
	for _, f := range d.Files {
		err := writeNew(filepath.Join(dir, f.Name), f.Text)
		if errors.Is(err, fs.ErrExist) && f.Name == ignoreFile {
			continue
		}
		if err != nil {
			return wrote, fmt.Errorf("writing a first configuration: %w", err)
		}
		wrote = append(wrote, f.Name)
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

// CheckInitCluster says what makes a name unfit for a cluster; nil when it is
// fit.
func CheckInitCluster(name string) error {
	if !plainName.MatchString(name) || name[0] <= '9' {
		return fmt.Errorf("the cluster's name %q is unfit: use a-z, 0-9 and -, beginning with a letter", name)
	}
	return nil
}

// CheckInitHost says what makes a name and an address unfit for a host; nil
// when they are fit.
func CheckInitHost(name, address string) error {
	if !plainName.MatchString(name) {
		return fmt.Errorf("the host's name %q is unfit: use a-z, 0-9 and -", name)
	}
	if problem := checkHostAddress(address); problem != "" {
		return fmt.Errorf("the address %q of host %s is unfit: %s", address, name, problem)
	}
	return nil
}

// CheckInitOrganization says what makes an organization unfit for a
// certificate; nil when it is fit.
func CheckInitOrganization(name string) error {
	if err := checkOrganization(name, "libvirt"); err != nil {
		return fmt.Errorf("the organization is unfit: %w", err)
	}
	return nil
}

// CheckInitUser says what makes an account unfit for logging in, or what this
// version cannot do with it; nil when it can be used.
func CheckInitUser(name string) error {
	switch detail, refused := laterValues["ssh=a user other than root"]; {
	case !account.MatchString(name):
		return fmt.Errorf("the user %q is unfit: use a-z, 0-9, _ and -, beginning with a letter or _", name)
	case refused && name != "root":
		return fmt.Errorf("the user %q is not in this version: %s", name, detail)
	}
	return nil
}

func (o *InitOptions) check() error {
	if err := CheckInitCluster(o.Cluster); err != nil {
		return err
	}
	if err := CheckInitOrganization(o.Organization); err != nil {
		return err
	}
	switch o.Migration {
	case MigrationOff, MigrationAvailable, MigrationRequired:
	default:
		return fmt.Errorf("migration is off, available or required, not %q", o.Migration)
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
		if h.Cluster == "" {
			h.Cluster = o.Cluster
		}
		if err := CheckInitHost(h.Name, h.Address); err != nil {
			return err
		}
		if err := CheckInitCluster(h.Cluster); err != nil {
			return err
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

// refuseLater takes out what this version cannot carry out, and tells it.
func (o *InitOptions) refuseLater() []string {
	var users []string
	var hosts []string
	for i := range o.Hosts {
		h := &o.Hosts[i]
		if h.User == "" || h.User == "root" || CheckInitUser(h.User) == nil {
			continue
		}
		if !slices.Contains(users, h.User) {
			users = append(users, h.User)
		}
		hosts = append(hosts, h.Name)
		h.User = ""
	}
	if len(hosts) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("The login user %s of %d hosts (%s) is left out: this version logs in as root.", strings.Join(users, ", "), len(hosts), some(hosts))}
}

// some names up to four of a list.
func some(names []string) string {
	if len(names) <= 4 {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:3], ", ") + fmt.Sprintf(" and %d more", len(names)-3)
}
