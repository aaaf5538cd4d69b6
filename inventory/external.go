package inventory

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// ExecAuthority signs by a program of the operator's: the request on standard
// input, the chain on standard output.
type ExecAuthority struct {
	Command []string      `json:"command"`
	Timeout time.Duration `json:"timeout"` // nanoseconds
}

// OfflineAuthority signs on a separate computer: requests are written to a
// folder, and chains are found there.
type OfflineAuthority struct {
	Folder string `json:"folder"` // absolute
}

// StepAuthority is a step-ca with a JWK provisioner.
type StepAuthority struct {
	URL          string `json:"url"`             // https://…
	Roots        string `json:"roots,omitempty"` // file of the server's root, absolute; empty means the system's
	Provisioner  string `json:"provisioner"`
	PasswordFrom string `json:"password_from"` // a reference, as PassphraseFrom
}

// VaultAuthority is the PKI engine of HashiCorp Vault or OpenBao.
type VaultAuthority struct {
	Address string `json:"address"` // https://…
	Mount   string `json:"mount"`
	Role    string `json:"role"`
	// ClientRole signs what is for clients only; Role where nothing is said.
	ClientRole string `json:"client_role"`
	Namespace  string `json:"namespace,omitempty"`
	Roots      string `json:"roots,omitempty"` // as of StepAuthority
	TokenFrom  string `json:"token_from"`      // a reference, as PassphraseFrom
}

// External tells whether somebody else's CA signs, so that no key of it is here.
func (a *Authority) External() bool { return a.Kind != "local" }

// SecretFrom are the references to secrets that an authority needs to sign.
func (a *Authority) SecretFrom() string {
	switch {
	case a.Step != nil:
		return a.Step.PasswordFrom
	case a.Vault != nil:
		return a.Vault.TokenFrom
	case a.External():
		return ""
	}
	return a.PassphraseFrom
}

// externalSpecs are the blocks that say how a CA elsewhere is reached, by kind.
var externalSpecs = []*blockSpec{
	{kind: "exec", attrs: []string{"command!", "timeout"}},
	{kind: "offline", attrs: []string{"folder"}},
	{kind: "step", attrs: []string{"url!", "roots", "provisioner!", "password_from"}},
	{kind: "vault", attrs: []string{"address!", "mount", "role!", "client_role", "namespace", "roots", "token_from"}},
}

// external reads the block of the authority's kind. Blocks of other kinds, and
// attributes that only a local authority has, are refused: they would be without
// effect.
func (r *reader) external(v *Authority) {
	var own *node
	for _, s := range externalSpecs {
		n := r.n.find(s.kind, "")
		switch {
		case n != nil && s.kind != v.Kind:
			r.bad = true
			r.l.errorAt(n.rng, fmt.Sprintf("Block %q without effect", s.kind), fmt.Sprintf("The authority is of kind %q. Set kind = %q or remove the block.", v.Kind, s.kind))
		case n != nil:
			own = n
		case s.kind == v.Kind && s.kind != "offline":
			r.bad = true
			r.l.errorAt(r.n.rng, fmt.Sprintf("Authority without a block %q", s.kind), fmt.Sprintf("Say how it is reached: %s { … }.", s.kind))
		}
	}
	if !v.External() {
		return
	}
	for _, name := range []string{"passphrase_from", "key_directory", "lifetime"} {
		if a := r.n.attrs[name]; a != nil {
			r.bad = true
			r.l.errorAt(a.rng, fmt.Sprintf("Attribute %q without effect", name), fmt.Sprintf("The key of an authority of kind %q is not here. Remove the attribute.", v.Kind))
		}
	}
	if own == nil {
		own = &node{spec: externalSpecs[1]}
	}
	c := r.child(own, v.Kind+".")
	switch v.Kind {
	case "exec":
		v.Exec = &ExecAuthority{Command: c.command("command")}
		v.Exec.Timeout, _ = c.duration("timeout", time.Minute)
	case "offline":
		v.Offline = &OfflineAuthority{Folder: c.localPath("folder", filepath.Join(r.l.fleet.Dir, "requests", v.Name))}
	case "step":
		v.Step = &StepAuthority{URL: c.server("url"), Roots: c.localPath("roots", ""), PasswordFrom: c.secret("password_from")}
		v.Step.Provisioner = c.wanted("provisioner")
	case "vault":
		v.Vault = &VaultAuthority{Address: c.server("address"), Roots: c.localPath("roots", ""), TokenFrom: c.secret("token_from")}
		v.Vault.Role = c.pathWord("role", "")
		v.Vault.ClientRole = c.pathWord("client_role", v.Vault.Role)
		v.Vault.Mount = c.pathWord("mount", "pki")
		v.Vault.Namespace, _, _ = c.text("namespace", "")
	}
	r.bad = r.bad || c.bad
}

// command reads a program with its arguments. Nothing of a shell is understood.
func (r *reader) command(name string) []string {
	var out []string
	for _, i := range r.items(name) {
		if s, ok := r.asText(i); ok {
			out = append(out, s)
		}
	}
	if len(out) == 0 && !r.bad && r.n.attrs[name] != nil {
		r.problem(item{rng: r.n.attrs[name].expr.Range()}, "Empty command", "Give the program and its arguments: ["+`"/usr/local/bin/sign", "--profile", "kvm"].`)
	}
	return out
}

// wanted reads a text that may not be empty.
func (r *reader) wanted(name string) string {
	s, i, ok := r.text(name, "")
	if ok && strings.TrimSpace(s) == "" {
		r.problem(i, "Empty text", fmt.Sprintf("Give %s a value.", name))
	}
	return s
}

// pathWord reads a text that becomes part of a URL's path.
func (r *reader) pathWord(name, otherwise string) string {
	s, i, ok := r.text(name, otherwise)
	if ok && (s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") != "" || strings.Contains(s, "..")) {
		r.problem(i, "Unfit name", fmt.Sprintf("%s has letters, digits and - _ . / only.", upperFirst(name)))
	}
	return s
}

// server reads the address of a server that secrets are sent to.
func (r *reader) server(name string) string {
	s, i, ok := r.text(name, "")
	if !ok {
		return s
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		r.problem(i, "Unfit address of a server", "Write https://NAME[:PORT]. A token or a password must not travel in plain text, and none belongs into an address.")
	}
	return s
}
