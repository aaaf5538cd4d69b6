package remote

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/virtrust/virtrust/internal/remote/sshconfig"
)

// maxJumps bounds the hosts in a row to go through.
const maxJumps = 8

// way is how an endpoint is really reached: what it says itself, completed by
// its configuration files.
type way struct {
	Endpoint          // Address, Port, User, KnownHosts and Identity are complete
	via      *way     // the jump host to go through, nil for none
	network  string   // tcp, tcp4 or tcp6
	bind     string   // local address, or ""
	names    []string // host names to look up in known_hosts, in this order
	keyAlias string   // the one name to look up instead, or ""

	optionalKnown  bool     // files of KnownHosts may be missing
	revoked        []string // files of revoked keys
	identitiesOnly bool     // offer Identity only, not the rest of the agent's keys
	given          bool     // Identity was named by a person, so that a missing file is worth a word
	certificates   []string // of users
	agent          string   // socket, or "" for none

	from map[string]sshconfig.Source // where a value comes from, by keyword of ssh_config
}

// keywords of ssh_config that decide how a host is reached.
var keywords = []string{"hostname", "user", "port", "identityfile", "identitiesonly", "identityagent", "certificatefile", "proxyjump", "proxycommand",
	"userknownhostsfile", "globalknownhostsfile", "hostkeyalias", "revokedhostkeys", "addressfamily", "bindaddress"}

// UserConfig are the configuration files that ssh reads: the user's, then the
// system's. Either may be missing.
func UserConfig() []sshconfig.File {
	var out []sshconfig.File
	if home, err := os.UserHomeDir(); err == nil {
		out = append(out, sshconfig.File{Path: filepath.Join(home, ".ssh", "config"), Optional: true})
	}
	return append(out, sshconfig.File{Path: "/etc/ssh/ssh_config", System: true, Optional: true})
}

// ParseJump reads one jump host as ssh -J takes it: "[USER@]HOST[:PORT]" or
// "ssh://[USER@]HOST[:PORT]". An IPv6 address with a port stands in brackets.
// Its user is, unless something says otherwise, the login name on this machine.
func ParseJump(text string) (Endpoint, error) {
	e := Endpoint{jumpHost: true}
	rest := strings.TrimSuffix(strings.TrimPrefix(text, "ssh://"), "/")
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		e.User, rest = rest[:i], rest[i+1:]
		if e.User == "" {
			return Endpoint{}, fmt.Errorf("jump host %q: the user is empty", clean(text, 100))
		}
	}
	e.Address = rest
	if _, err := netip.ParseAddr(rest); err != nil && strings.Contains(rest, ":") || strings.HasPrefix(rest, "[") {
		host, port, err := net.SplitHostPort(rest)
		if err != nil && strings.HasSuffix(rest, "]") {
			host, port, err = strings.Trim(rest, "[]"), "22", nil
		}
		n, bad := strconv.ParseUint(port, 10, 16)
		if err != nil || bad != nil || n == 0 {
			return Endpoint{}, fmt.Errorf("jump host %q is not [USER@]HOST[:PORT]", clean(text, 100))
		}
		e.Address, e.Port = host, int(n)
	}
	if e.Address == "" || strings.ContainsAny(e.Address, " \t/\"'\\") || strings.HasPrefix(e.Address, "-") {
		return Endpoint{}, fmt.Errorf("jump host %q is not [USER@]HOST[:PORT]", clean(text, 100))
	}
	return e, nil
}

// ways resolves endpoints; it reads each set of configuration files once.
type ways struct {
	mu      sync.Mutex
	configs map[string]*readConfig
}

type readConfig struct {
	once   sync.Once
	config *sshconfig.Config
	err    error
}

func (w *ways) config(home string, files []sshconfig.File) (*sshconfig.Config, error) {
	id := home
	for _, f := range files {
		id += "\x00" + f.Path
	}
	w.mu.Lock()
	r := w.configs[id]
	if r == nil {
		r = &readConfig{}
		if w.configs == nil {
			w.configs = map[string]*readConfig{}
		}
		w.configs[id] = r
	}
	w.mu.Unlock()
	r.once.Do(func() { r.config, r.err = sshconfig.Read(home, files...) })
	return r.config, r.err
}

func (w *ways) resolve(e Endpoint) (*way, error) { return w.resolveHop(e, 0) }

func (w *ways) resolveHop(e Endpoint, depth int) (*way, error) {
	if depth > maxJumps {
		return nil, fmt.Errorf("more than %d jump hosts in a row: does one of them name itself or an earlier one?", maxJumps)
	}
	home, _ := os.UserHomeDir()
	account := accountName()
	config, err := w.config(home, e.Config)
	if err != nil {
		return nil, err
	}
	said, err := config.Lookup(sshconfig.Query{Host: e.Address, Account: account, Given: e.given(), Keywords: keywords})
	if err != nil {
		return nil, err
	}
	r := &resolver{asked: e, home: home, account: account, said: said, way: &way{Endpoint: e, from: map[string]sshconfig.Source{}}}
	if err := r.complete(); err != nil {
		return nil, err
	}
	jumps, err := r.jumps()
	if err != nil || len(jumps) == 0 {
		return r.way, err
	}
	last := jumps[len(jumps)-1]
	if len(jumps) > 1 {
		last.Jump = jumps[:len(jumps)-1]
	}
	via, err := w.resolveHop(last, depth+1)
	if err != nil && depth == 0 {
		err = fmt.Errorf("jump host %s: %w", last.label(), err)
	}
	if err != nil {
		return nil, err
	}
	r.way.via = via
	return r.way, nil
}

// given are the values of an endpoint that its configuration files cannot
// change.
func (e Endpoint) given() map[string]string {
	out := map[string]string{}
	if e.User != "" {
		out["user"] = e.User
	}
	if e.Port != 0 {
		out["port"] = strconv.Itoa(e.Port)
	}
	if len(e.Identity) > 0 {
		// A named key is what a person wants to be offered, and nothing else.
		out["identityfile"], out["certificatefile"], out["identitiesonly"] = e.Identity[0], "none", "yes"
	}
	if e.Jump != nil {
		out["proxyjump"] = "none"
		out["proxycommand"] = "none"
	}
	if len(e.KnownHosts) > 0 {
		out["userknownhostsfile"], out["globalknownhostsfile"] = e.KnownHosts[0], "none"
	}
	return out
}

func accountName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return os.Getenv("USER")
}

// resolver completes one way.
type resolver struct {
	asked         Endpoint
	home, account string
	said          *sshconfig.Settings
	way           *way
	tokens        sshconfig.Tokens
}

// get returns a value of the configuration files and remembers its place.
func (r *resolver) get(keyword string) (sshconfig.Value, bool) {
	v, ok := r.said.Get(keyword)
	if !ok || v.Source.File == "" {
		return v, false
	}
	r.way.from[keyword] = v.Source
	return v, true
}

func (r *resolver) complete() error {
	w := r.way
	alias := w.Address
	if v, ok := r.get("hostname"); ok {
		w.Address = v.Text
	}
	if err := checkDialled(w.Address); err != nil {
		return fmt.Errorf("%s%w", at(w.from["hostname"]), err)
	}
	if v, ok := r.get("port"); ok {
		n, err := strconv.ParseUint(v.Text, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("%s: Port %q is no port", v.Source, v.Text)
		}
		w.Port = int(n)
	}
	w.Port = w.port()
	if v, ok := r.get("user"); ok {
		w.User = v.Text
	}
	if w.User == "" {
		w.User = "root"
		if w.jumpHost {
			w.User = r.account
		}
	}
	short, _, _ := strings.Cut(hostname(), ".")
	r.tokens = sshconfig.Tokens{'d': r.home, 'h': w.Address, 'i': strconv.Itoa(os.Getuid()), 'L': short, 'l': hostname(),
		'n': alias, 'p': strconv.Itoa(w.Port), 'r': w.User, 'u': r.account, 'k': alias}
	if v, ok := r.get("hostkeyalias"); ok {
		w.keyAlias = v.Text
		r.tokens['k'] = v.Text
	}
	for _, n := range []string{w.Name, alias, w.Address} {
		if n != "" && !slices.Contains(w.names, n) {
			w.names = append(w.names, n)
		}
	}
	if w.Name == "" {
		w.Name = alias // what a person calls it
	}
	w.network = "tcp"
	if v, ok := r.get("addressfamily"); ok {
		w.network = map[string]string{"inet": "tcp4", "inet6": "tcp6"}[strings.ToLower(v.Text)]
		if w.network == "" {
			w.network = "tcp"
		}
	}
	if v, ok := r.get("bindaddress"); ok {
		w.bind = v.Text
	}
	return errors.Join(r.hostKeys(), r.identities())
}

func hostname() string {
	name, _ := os.Hostname()
	return name
}

func at(s sshconfig.Source) string {
	if s.File == "" {
		return ""
	}
	return s.String() + ": "
}

// checkDialled refuses what cannot be a host's name or address.
func checkDialled(address string) error {
	if address == "" || strings.HasPrefix(address, "-") || strings.ContainsFunc(address, func(c rune) bool {
		return c <= ' ' || c == 0x7f || strings.ContainsRune("[]/\\\"'`$&;|<>(){}", c)
	}) {
		return fmt.Errorf("%q is no name or address of a host", clean(address, 100))
	}
	if _, err := netip.ParseAddr(address); err != nil && strings.ContainsAny(address, "%:") {
		return fmt.Errorf("%q is no name or address of a host", clean(address, 100))
	}
	return nil
}

func (r *resolver) hostKeys() error {
	w := r.way
	if len(w.KnownHosts) == 0 {
		w.optionalKnown = true
		for _, k := range []struct {
			keyword   string
			otherwise []string
		}{
			{"userknownhostsfile", []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"}},
			{"globalknownhostsfile", []string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}},
		} {
			files := k.otherwise
			if v, ok := r.get(k.keyword); ok {
				files = v.Args
			}
			paths, err := r.paths(k.keyword, files)
			if err != nil {
				return err
			}
			w.KnownHosts = append(w.KnownHosts, paths...)
		}
	}
	if v, ok := r.get("revokedhostkeys"); ok {
		var err error
		w.revoked, err = r.paths("revokedhostkeys", v.Args)
		return err
	}
	return nil
}

func (r *resolver) identities() error {
	w := r.way
	w.agent = os.Getenv("SSH_AUTH_SOCK")
	if v, ok := r.get("identityagent"); ok {
		switch {
		case v.Text == "none":
			w.agent = ""
		case v.Text == "SSH_AUTH_SOCK":
		case strings.HasPrefix(v.Text, "$") && !strings.HasPrefix(v.Text, "${"):
			w.agent = os.Getenv(v.Text[1:])
		default:
			p, err := r.paths("identityagent", []string{v.Text})
			if err != nil {
				return err
			}
			w.agent = p[0]
		}
	}
	if len(w.Identity) > 0 {
		w.given, w.identitiesOnly = true, true
		return nil
	}
	if v, ok := r.get("identitiesonly"); ok {
		w.identitiesOnly = strings.EqualFold(v.Text, "yes") || strings.EqualFold(v.Text, "true")
	}
	for _, list := range []struct {
		keyword string
		to      *[]string
	}{{"identityfile", &w.Identity}, {"certificatefile", &w.certificates}} {
		for _, v := range r.said.All(list.keyword) {
			w.given = true
			w.from[list.keyword] = v.Source
			paths, err := r.paths(list.keyword, []string{v.Text})
			if err != nil {
				return err
			}
			*list.to = append(*list.to, paths...)
		}
	}
	if !w.given && len(w.inherit) > 0 {
		w.Identity, w.given, w.identitiesOnly = w.inherit, true, true
	}
	return nil
}

// paths expands file names; "none" is none.
func (r *resolver) paths(keyword string, names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		if strings.EqualFold(n, "none") {
			continue
		}
		p, err := r.tokens.ExpandPath(n, r.home)
		if err != nil {
			return nil, fmt.Errorf("%s%w", at(r.way.from[keyword]), err)
		}
		out = append(out, p)
	}
	return out, nil
}

// jumps are the hosts to go through, the first one to dial first. A host that
// stands in its own list is reached through those before it.
func (r *resolver) jumps() ([]Endpoint, error) {
	w := r.way
	if w.Jump != nil {
		out := slices.Clone(w.Jump)
		for i := range out {
			if out[i].jumpHost {
				out[i] = out[i].under(r.asked)
			}
		}
		return r.before(out), nil
	}
	if v, ok := r.get("proxycommand"); ok && !strings.EqualFold(v.Text, "none") {
		return nil, fmt.Errorf("%s: ProxyCommand runs a program of this machine for every host, which is not done here: name the way in with jump in the inventory's ssh block (jump = [] for none) or with ProxyJump", v.Source)
	}
	v, ok := r.get("proxyjump")
	if !ok || strings.EqualFold(v.Text, "none") {
		return nil, nil
	}
	var out []Endpoint
	for hop := range strings.SplitSeq(v.Text, ",") {
		text, err := sshconfig.Tokens{'h': w.Address, 'n': r.tokens['n'], 'p': r.tokens['p'], 'r': w.User}.Expand(strings.Trim(hop, " \t\""))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.Source, err)
		}
		e, err := ParseJump(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", v.Source, err)
		}
		out = append(out, e.under(r.asked))
	}
	return r.before(out), nil
}

func (r *resolver) before(jumps []Endpoint) []Endpoint {
	w := r.way
	for i, j := range jumps {
		same := j.Port == r.asked.Port || (j.Port == 0 || j.Port == 22) && w.Port == 22
		if same && slices.ContainsFunc(w.names, func(n string) bool { return strings.EqualFold(n, j.Address) }) {
			return jumps[:i]
		}
	}
	return jumps
}

// under gives a jump host what it shares with the host behind it.
func (e Endpoint) under(host Endpoint) Endpoint {
	e.Config = host.Config
	if len(e.Identity) == 0 && len(e.inherit) == 0 {
		e.inherit = host.Identity
		if len(host.Identity) == 0 {
			e.inherit = host.inherit
		}
	}
	if len(e.KnownHosts) == 0 && len(e.HostKeys) == 0 {
		e.KnownHosts = host.KnownHosts
	}
	return e
}

// address is what is dialled.
func (w *way) address() string { return net.JoinHostPort(w.Address, strconv.Itoa(w.Port)) }

// id tells ways apart that must not share a connection.
func (w *way) id() string {
	parts := []string{w.User, w.address(), w.network, w.bind, w.keyAlias, w.agent, strconv.FormatBool(w.identitiesOnly)}
	for _, l := range [][]string{w.names, w.HostKeys, w.KnownHosts, w.Identity, w.certificates, w.revoked} {
		parts = append(parts, strconv.Quote(strings.Join(l, "\x00")))
	}
	if w.via != nil {
		parts = append(parts, w.via.id())
	}
	return strings.Join(parts, "\x00")
}

// origin says which values of those that decided where to dial come from a
// configuration file, for messages; "" for none.
func (w *way) origin() string {
	var out []string
	for _, k := range []struct{ keyword, name string }{{"hostname", "HostName"}, {"port", "Port"}, {"user", "User"}, {"proxyjump", "ProxyJump"}} {
		if s, ok := w.from[k.keyword]; ok {
			out = append(out, k.name+" from "+s.String())
		}
	}
	return strings.Join(out, ", ")
}
