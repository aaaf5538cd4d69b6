package remote

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

// step is one change of a live name, as the scripts know it.
type step struct {
	kind   string // dir, tree, file, link, gone, unit, activate, consoles, port
	path   string // what is changed; of a unit, its name
	from   string // staged path that is renamed to path
	before plan.State
	now    string // digest of a file, target of a link
	owner  string // owner:group
	mode   uint32
	// Of units.
	service string
	off     bool // the unit is disabled and stopped
	how     plan.How
	// Of trees: the staged key and certificate and their owner and modes.
	key *keyStep
}

// keyStep is an identity in a staged generation.
type keyStep struct {
	enrol plan.Enrol
	dir   string // staged generation
	adopt bool   // the pair is copied from the public names
}

// staged is a transaction laid out: where it is staged and in which steps it
// is switched.
type staged struct {
	dirs   []string // staging directories
	steps  []step
	leaves map[string][]byte // certificate to the DER of its new leaf
	files  []Upload
	sums   map[string]string // staged path to sha256
	rules  []string          // of the firewall, as the script knows them
}

func (st *staged) add(s step) int {
	st.steps = append(st.steps, s)
	return len(st.steps)
}

// runDir is where this run keeps its journal and saved files on the host.
func (s *Session) runDir() string { return "/var/lib/virtrust/run-" + s.cfg.Run }

// stagingFor gives the staging directory in the file system of p: beside the
// nearest directory above p that exists.
func (s *Session) stagingFor(st *staged, p string) string {
	d := path.Dir(p)
	for d != "/etc" && d != "/" && s.seen.Path(d).Type != facts.Directory {
		d = path.Dir(d)
	}
	dir := path.Join(d, ".virtrust-"+s.cfg.Run)
	if !slices.Contains(st.dirs, dir) {
		st.dirs = append(st.dirs, dir)
	}
	return dir
}

// layout turns operations into steps and uploads. It refuses paths that a
// journal line could not carry.
func (s *Session) layout(ops plan.Ops) (*staged, error) {
	st := &staged{leaves: map[string][]byte{}, sums: map[string]string{}}
	written := map[string][]byte{} // by earlier operations of this transaction
	for _, o := range ops {
		if err := plainPath(o.Subject()); err != nil {
			return nil, err
		}
		switch o := o.(type) {
		case plan.MakeDir:
			st.add(step{kind: "dir", path: o.Path, owner: o.Owner + ":" + o.Group, mode: o.Mode})
		case plan.WriteFile:
			have, ok := written[o.Path]
			if !ok {
				have, _ = s.seen.Content(o.Path)
			}
			content, err := s.cfg.Render(o, have)
			if err != nil {
				return nil, err
			}
			if plan.Digest(content) != o.After.Digest {
				return nil, &Error{Class: ClassMoved, Host: s.end.label(), Op: "staging " + o.Path, Err: errors.New("the new content is not what the plan promised"), Hint: "make a new plan"}
			}
			written[o.Path] = content
			from := s.stage(st, o.Path, content)
			// Written again in a later wave: it is put there once, as it is in
			// the end, so that one copy of what was there undoes it.
			if i := slices.IndexFunc(st.steps, func(t step) bool { return ok && t.kind == "file" && t.path == o.Path }); i >= 0 {
				st.steps[i].from, st.steps[i].now = from, o.After.Digest
				st.steps[i].owner, st.steps[i].mode = o.After.Owner+":"+o.After.Group, o.After.Mode
				break
			}
			st.add(step{kind: "file", path: o.Path, from: from, before: o.Before, now: o.After.Digest, owner: o.After.Owner + ":" + o.After.Group, mode: o.After.Mode})
		case plan.Link:
			if err := plainPath(o.Target); err != nil {
				return nil, err
			}
			s.link(st, o.Path, o.Target, o.Before)
		case plan.Remove:
			st.add(step{kind: "gone", path: o.Path, before: o.Before})
		case plan.Enrol:
			s.enrol(st, o)
		case plan.SetUnit:
			if o.Enabled != o.Active {
				return nil, fmt.Errorf("unit %s: a unit is enabled and started, or neither", o.Unit)
			}
			st.add(step{kind: "unit", path: o.Unit, service: o.Service, off: !o.Enabled})
		case plan.Activate:
			if o.How == plan.ReloadConsoles {
				st.add(step{kind: "consoles", path: o.Unit})
				break
			}
			st.add(step{kind: "activate", path: o.Unit, how: o.How})
		case plan.AllowPort, plan.ClosePort:
			p, closes, _ := plan.PortOf(o)
			if err := s.portStep(st, p, closes); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("operation %q is not known here", o.Kind())
		}
	}
	return st, nil
}

func (s *Session) stage(st *staged, p string, content []byte) string {
	from := path.Join(s.stagingFor(st, p), fmt.Sprintf("f%d", len(st.files)))
	st.files = append(st.files, Upload{Path: from, Mode: 0o600, Content: content})
	st.sums[from] = plan.Digest(content)
	return from
}

func (s *Session) link(st *staged, p, target string, before plan.State) {
	from := path.Join(s.stagingFor(st, p), fmt.Sprintf("l%d", len(st.steps)))
	st.add(step{kind: "link", path: p, from: from, before: before, now: target, owner: "root:root"})
}

// enrol lays out one identity so that at every moment the public names show
// one whole pair or none: names that are files today first point at a copy of
// themselves, names that are absent stay dangling until the one switch.
func (s *Session) enrol(st *staged, o plan.Enrol) {
	owner := o.Owner + ":" + o.Group
	tree := func(generation string, adopt bool) {
		dir := path.Join(s.stagingFor(st, o.Tree+"/x"), fmt.Sprintf("g%d", len(st.steps)))
		st.add(step{kind: "tree", path: o.Tree + "/" + generation, from: dir, owner: owner, mode: o.KeyMode, key: &keyStep{enrol: o, dir: dir, adopt: adopt}})
	}
	current := o.Current
	if o.Adopt != nil {
		taken := o.Generation + "a"
		tree(taken, true)
		s.link(st, o.Tree+"/current", taken, current)
		current = plan.State{Type: facts.Symlink, Target: taken}
	}
	for _, l := range o.Links {
		s.link(st, l.Path, l.Target, l.Before)
	}
	tree(o.Generation, false)
	s.link(st, o.Tree+"/current", o.Generation, current)
}

// plainPath refuses what a line of the journal or of a script could not carry.
func plainPath(p string) error {
	if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._@+-") != "" || p[0] == '-' {
		return &Error{Class: ClassConfiguration, Op: "staging", Err: fmt.Errorf("%q has characters that a managed path may not have", p), Hint: "use letters, digits and / . _ @ + - only"}
	}
	return nil
}

// Stage makes staging directories, has keys and requests made on the host,
// has the requests signed and uploads everything. Nothing live is touched.
func (s *Session) Stage(ctx context.Context, ops plan.Ops, sign plan.SignFunc) error {
	st, err := s.layout(ops)
	if err != nil {
		return err
	}
	s.ops, s.staged = ops, st
	nonce := Nonce()
	var b strings.Builder
	b.WriteString(s.head(nonce))
	b.WriteString("ours\nD=$S/run-$R\n")
	b.WriteString(cannotScript)
	b.WriteString(`mkdir -m 0700 "$D" "$D/saved" || cannot "make $D" "$S"` + "\n")
	for _, d := range st.dirs {
		q := facts.Quote(d)
		fmt.Fprintf(&b, "printf '%%s %%s\\n' \"$R\" %s >>\"$S/staging\" || cannot \"write $S/staging\" \"$S\"\nmkdir -m 0700 %s || cannot 'make '%s %s\n", q, q, q, facts.Quote(path.Dir(d)))
	}
	b.WriteString(`durable "$S/staging"` + "\n")
	b.WriteString(keyScript)
	for i, t := range st.steps {
		if t.key == nil {
			continue
		}
		dir := facts.Quote(t.key.dir)
		if t.key.adopt {
			fmt.Fprintf(&b, "take %s %s %s\n", dir, facts.Quote(t.key.enrol.Adopt.Cert), facts.Quote(t.key.enrol.Adopt.Key))
			continue
		}
		b.WriteString(wishes(t.key.enrol))
		fmt.Fprintf(&b, "enrol %d %s %s\n", i, dir, facts.Quote(string(t.key.enrol.Profile.Algorithm())))
	}
	a, err := s.run(ctx, "staging", runLimit, nonce, whole(b.String()))
	if err != nil {
		return err
	}
	var waiting error
	for i, t := range st.steps {
		if t.key == nil || t.key.adopt {
			continue
		}
		csr := a.csr(i)
		if csr == nil {
			return &Error{Class: ClassScript, Host: s.end.label(), Op: "staging", Err: fmt.Errorf("no request for %s came back", t.key.enrol.Certificate)}
		}
		chain, err := sign(ctx, s.end.label(), t.key.enrol, csr)
		var w *plan.WaitingError
		if errors.As(err, &w) {
			// The others are asked for, too, so that all can be signed at once.
			waiting = errors.Join(waiting, err)
			continue
		}
		if err != nil {
			return err
		}
		var text []byte
		for _, der := range chain {
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		p := t.key.dir + "/cert.pem"
		st.files = append(st.files, Upload{Path: p, Mode: 0o600, Content: text})
		st.sums[p] = plan.Digest(text)
		st.leaves[t.key.enrol.Certificate] = chain[0]
	}
	if waiting != nil {
		return waiting
	}
	st.files = append(st.files, Upload{Path: s.runDir() + "/revert.sh", Mode: 0o600, Content: []byte(revertScript)})
	st.sums[s.runDir()+"/revert.sh"] = plan.Digest([]byte(revertScript))
	if err := s.stageFirewall(st); err != nil {
		return err
	}
	if s.needsTimer() {
		st.files = append(st.files, Upload{Path: s.runDir() + "/unit", Mode: 0o600, Content: s.cfg.RevertService})
		st.sums[s.runDir()+"/unit"] = plan.Digest(s.cfg.RevertService)
	}
	return s.Conn().Upload(ctx, st.files)
}

// needsTimer reports whether a daemon or a firewall is touched. Where only files change, the
// switch ends within its one script.
func (s *Session) needsTimer() bool {
	return slices.ContainsFunc(s.ops, func(o plan.Op) bool {
		switch o.(type) {
		case plan.SetUnit, plan.Activate, plan.AllowPort, plan.ClosePort:
			return true
		}
		return false
	})
}

func (a answer) csr(n int) []byte {
	for _, f := range a.frames {
		if f.Kind == "csr" && f.Arg == fmt.Sprint(n) {
			return f.Data
		}
	}
	return nil
}

// cannotScript ends a script with what it could not do and, where the file
// system is the reason, why.
const cannotScript = `
cannot() { # what, an existing directory where it was tried
	why=
	read -r blocks inodes all <<-end
		$(stat -f -c '%a %d %c' -- "$2" 2>/dev/null)
	end
	if [ ! -w "$2" ]; then why=": its file system is read-only"
	elif [ "$blocks" = 0 ]; then why=": its file system is full"
	elif [ "$inodes" = 0 ] && [ "$all" != 0 ]; then why=": its file system has no inodes left"
	fi
	die failed "cannot $1$why" 20
}
`

// wishes sets the variables that enrol takes names and a waiting key from. Our
// own authority takes nothing but the key from a request. Others may copy what
// stands in it, and may sign on another day: then the key waits on its host.
func wishes(o plan.Enrol) string {
	if !o.Profile.Foreign {
		return "wait= cn=request ext= tmpl=\n"
	}
	p := o.Profile
	var sans, roles []string
	tmpl := "cn = \"" + p.CommonName + "\"\n"
	for _, n := range p.DNSNames {
		sans = append(sans, "DNS:"+n)
		tmpl += "dns_name = \"" + n + "\"\n"
	}
	for _, ip := range p.IPs {
		sans = append(sans, "IP:"+ip.String())
		tmpl += "ip_address = \"" + ip.String() + "\"\n"
	}
	for _, u := range p.Usages {
		roles = append(roles, string(u)+"Auth")
		tmpl += "tls_www_" + string(u) + "\n"
	}
	ext := "extendedKeyUsage=" + strings.Join(roles, ",") + "\n"
	if len(sans) > 0 {
		ext += "subjectAltName=" + strings.Join(sans, ",") + "\n"
	}
	return fmt.Sprintf("wait=\"$S\"/waiting/%s cn=%s ext=%s tmpl=%s\n", facts.Quote(o.Certificate), facts.Quote(p.CommonName), facts.Quote(ext), facts.Quote(tmpl))
}

// keyScript makes keys and requests, or takes a key that waits for its
// signature.
const keyScript = `
take() { # staged generation, certificate, key
	mkdir -m 0700 "$1" && cat -- "$2" >"$1/cert.pem" && cat -- "$3" >"$1/key.pem" || cannot "copy $2 and $3" "${1%/*}"
	durable "$1/cert.pem" "$1/key.pem" "$1"
}
enrol() { # number, staged generation, algorithm
	mkdir -m 0700 "$2" || cannot "make $2" "${2%/*}"
	if [ -n "$wait" ] && [ -f "$wait/key.pem" ] && [ "$(cat "$wait/algorithm" 2>/dev/null)" = "$3" ]; then
		cat -- "$wait/key.pem" >"$2/key.pem" || cannot "copy $wait/key.pem" "$2"
	else
		if command -v openssl >/dev/null 2>&1; then
			case $3 in
			ecdsa-p256) set -- "$1" "$2" "$3" EC ec_paramgen_curve:P-256 ;;
			rsa-*) set -- "$1" "$2" "$3" RSA "rsa_keygen_bits:${3#rsa-}" ;;
			esac
			openssl genpkey -algorithm "$4" -pkeyopt "$5" -out "$2/key.pem" >/dev/null 2>&1 </dev/null || cannot "make a key in $2 with openssl" "$2"
		else
			case $3 in
			ecdsa-p256) certtool --generate-privkey --key-type=ecdsa --curve=secp256r1 --no-text --outfile "$2/key.pem" >/dev/null 2>&1 </dev/null ;;
			rsa-*) certtool --generate-privkey --key-type=rsa --bits="${3#rsa-}" --no-text --outfile "$2/key.pem" >/dev/null 2>&1 </dev/null ;;
			esac || cannot "make a key in $2 with certtool" "$2"
		fi
		if [ -n "$wait" ]; then
			for d in "${wait%/*}" "$wait"; do
				[ -d "$d" ] || mkdir -m 0700 "$d" || cannot "make $d" "$S"
			done
			rm -f "$wait/key.pem"
			{ printf '%s\n' "$3" >"$wait/algorithm" && cat -- "$2/key.pem" >"$wait/key.new" && mv -f "$wait/key.new" "$wait/key.pem"; } || cannot "write to $wait" "$S"
			durable "$wait/key.pem" "$wait" "${wait%/*}"
		fi
	fi
	if command -v openssl >/dev/null 2>&1; then
		r=$(printf '[req]\ndistinguished_name=dn\n%s[dn]\n[ext]\n%s' "${ext:+req_extensions=ext
}" "$ext" | openssl req -new -key "$2/key.pem" -subj "/CN=$cn" -config /dev/stdin 2>/dev/null)
	else
		printf '%s' "${tmpl:-cn = "request"
}" >"$2/template"
		r=$(certtool --generate-request --load-privkey "$2/key.pem" --template "$2/template" --no-text 2>/dev/null </dev/null)
		rm -f "$2/template"
	fi
	[ -n "$r" ] || cannot "make a request in $2" "$2"
	durable "$2/key.pem" "$2"
	say csr "$1" "$r"
}
`
