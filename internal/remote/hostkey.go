package remote

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys judges the keys of hosts; it reads each set of known_hosts files once.
type hostKeys struct {
	mu  sync.Mutex
	dbs map[string]*knownHosts
}

type knownHosts struct {
	once  sync.Once
	files []string
	db    *knownhosts.HostKeyDB // nil when there is no file
	index *knownIndex           // nil where it cannot stand in for db
	err   error
}

// open reads files; with optional, those that exist.
func (h *hostKeys) open(files []string, optional bool) (*knownHosts, error) {
	h.mu.Lock()
	id := strings.Join(files, "\x00") + strconv.FormatBool(optional)
	k := h.dbs[id]
	if k == nil {
		k = &knownHosts{}
		if h.dbs == nil {
			h.dbs = map[string]*knownHosts{}
		}
		h.dbs[id] = k
	}
	h.mu.Unlock()
	k.once.Do(func() { k.load(files, optional) })
	return k, k.err
}

func (k *knownHosts) load(files []string, optional bool) {
	var open []string
	for _, f := range files {
		f, err := expandHome(f)
		if err != nil {
			k.err = err
			return
		}
		k.files = append(k.files, f)
		if _, err := os.Stat(f); optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		open = append(open, f)
	}
	if len(open) > 0 {
		if k.db, k.err = knownhosts.NewDB(open...); k.err == nil {
			k.index = newKnownIndex(open)
		}
	}
}

// verifier judges one host's key.
type verifier struct {
	way     *way
	known   *knownHosts // nil when keys are pinned
	names   []string    // "host:port", in the order in which they are looked up
	revoked []ssh.PublicKey
	keys    []ssh.PublicKey // of the first of names that the index has
}

func (h *hostKeys) verifier(w *way) (*verifier, error) {
	v := &verifier{way: w}
	var err error
	if v.revoked, err = readRevoked(w.revoked); err != nil {
		return nil, err
	}
	if len(w.HostKeys) > 0 {
		for _, fp := range w.HostKeys {
			if !strings.HasPrefix(fp, "SHA256:") {
				return nil, fmt.Errorf("host_key %q is not a SHA256 fingerprint", clean(fp, 60))
			}
		}
		return v, nil
	}
	if v.known, err = h.open(w.KnownHosts, w.optionalKnown); err != nil {
		return nil, err
	}
	for _, n := range w.names {
		v.names = append(v.names, net.JoinHostPort(strings.ToLower(n), strconv.Itoa(w.Port)))
	}
	if w.keyAlias != "" {
		// OpenSSH looks an alias up as it is, whatever the port.
		v.names = []string{net.JoinHostPort(w.keyAlias, "22")}
	}
	if x := v.known.index; x != nil {
		for _, n := range v.names {
			if v.keys = x.find(n); len(v.keys) > 0 {
				break
			}
		}
	}
	return v, nil
}

// readRevoked reads files of public keys that no host may present. A binary
// revocation list (KRL) is refused: it cannot be read here.
func readRevoked(files []string) ([]ssh.PublicKey, error) {
	var out []ssh.PublicKey
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("RevokedHostKeys: %w", err)
		}
		for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
			var key ssh.PublicKey
			if key, _, _, rest, err = ssh.ParseAuthorizedKey(rest); err != nil {
				return nil, fmt.Errorf("RevokedHostKeys: %s is no list of public keys (a KRL is not read here): %w", f, err)
			}
			out = append(out, key)
		}
	}
	return out, nil
}

// algorithms are the host key algorithms to ask for: those that the host has
// entries for, so that a host is not asked for a key that nobody wrote down
// (golang/go#29286). Without entries, Ed25519 comes first.
func (v *verifier) algorithms() []string {
	secure := ssh.SupportedAlgorithms().HostKeys
	var out []string
	for _, k := range v.keys {
		for _, a := range algorithmsOf(k) {
			if slices.Contains(secure, a) && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	if v.known != nil && v.known.db != nil && v.known.index == nil {
		for _, n := range v.names {
			for _, a := range v.known.db.HostKeyAlgorithms(n) {
				if slices.Contains(secure, a) && !slices.Contains(out, a) {
					out = append(out, a)
				}
			}
			if len(out) > 0 {
				return out
			}
		}
	}
	for _, a := range []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256} {
		if slices.Contains(secure, a) {
			out = append(out, a)
		}
	}
	return out
}

// algorithmsOf are the algorithms by which a host can prove a key.
func algorithmsOf(key ssh.PublicKey) []string {
	if key.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{key.Type()}
}

// anyAddress stands for the peer in look-ups: entries are matched by name and
// configured address only, never by where the packets came from.
var anyAddress = &net.TCPAddr{IP: net.IPv4zero}

func (v *verifier) check(key ssh.PublicKey) error {
	fp := fingerprint(key)
	where := "ssh-keygen -l -f /etc/ssh/ssh_host_" + keyFile(key) + "_key.pub"
	for _, r := range v.revoked {
		c, _ := key.(*ssh.Certificate)
		if bytes.Equal(r.Marshal(), plainKey(key).Marshal()) || c != nil && bytes.Equal(r.Marshal(), c.SignatureKey.Marshal()) {
			return v.fail(ClassHostKeyChanged, fmt.Errorf("the host presents the key %s, which RevokedHostKeys lists", fp),
				"do not connect: give the host a new key, or find out who answers for it")
		}
	}
	if len(v.way.HostKeys) > 0 {
		for _, want := range v.way.HostKeys {
			if subtle.ConstantTimeCompare([]byte(want), []byte(fp)) == 1 {
				return nil
			}
		}
		return v.fail(ClassHostKeyChanged,
			fmt.Errorf("the host presents the %s key %s, which is not pinned", key.Type(), fp),
			"compare it with `"+where+"` on the host's console; if it is the same, the pin is old or of another key type: put this fingerprint into host_key")
	}
	if v.isKnown(key) {
		return nil
	}
	if v.known.db != nil {
		check := v.known.db.HostKeyCallback()
		for _, n := range v.names {
			err := check(n, anyAddress, key)
			var revoked *xknownhosts.RevokedError
			var mismatch *xknownhosts.KeyError
			switch {
			case err == nil:
				return nil
			case errors.As(err, &revoked):
				return v.fail(ClassHostKeyChanged,
					fmt.Errorf("the host presents the key %s, which %s:%d revokes", fp, revoked.Revoked.Filename, revoked.Revoked.Line),
					"do not connect: give the host a new key, or find out who answers for it")
			case errors.As(err, &mismatch) && len(mismatch.Want) > 0:
				old := mismatch.Want[0]
				return v.fail(ClassHostKeyChanged,
					fmt.Errorf("the host presents the %s key %s, but %s:%d has %s for %s", key.Type(), fp, old.Filename, old.Line, fingerprint(old.Key), n),
					fmt.Sprintf("if the host was installed anew, compare with `%s` on its console and replace line %d of %s; if not, somebody else answers", where, old.Line, old.Filename))
			case errors.As(err, &mismatch):
				continue
			default: // a certificate that is not valid for this name, or has expired
				if _, ok := key.(*ssh.Certificate); ok && !strings.Contains(err.Error(), "no authorities for hostname") {
					return v.fail(ClassHostKeyChanged, fmt.Errorf("the host's certificate is refused: %w", err),
						"renew the host's SSH certificate")
				}
			}
		}
	}
	addr := v.way.address()
	if v.way.keyAlias != "" {
		addr = v.way.keyAlias
	}
	return v.fail(ClassHostKeyUnknown,
		fmt.Errorf("the host's %s key %s is not known", key.Type(), fp),
		fmt.Sprintf("compare it with `%s` on the host's console, then pin it with host_key = [%q] or add this line to %s: %s",
			where, fp, v.file(), knownhosts.Line([]string{addr}, plainKey(key))))
}

// isKnown reports whether a plain key is in the index under a name of the host.
func (v *verifier) isKnown(key ssh.PublicKey) bool {
	if _, cert := key.(*ssh.Certificate); cert || len(v.keys) == 0 || v.known.index.revoked[string(key.Marshal())] {
		return false
	}
	return slices.ContainsFunc(v.keys, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), key.Marshal()) })
}

func (v *verifier) fail(c Class, err error, hint string) error {
	return &Error{Class: c, Host: v.way.label(), Op: "checking the host key", Err: err, Hint: hint}
}

func (v *verifier) file() string {
	if len(v.known.files) == 0 {
		return "known_hosts"
	}
	return v.known.files[0]
}

func plainKey(key ssh.PublicKey) ssh.PublicKey {
	if c, ok := key.(*ssh.Certificate); ok {
		return c.Key
	}
	return key
}

func fingerprint(key ssh.PublicKey) string { return ssh.FingerprintSHA256(plainKey(key)) }

func keyFile(key ssh.PublicKey) string {
	switch t := plainKey(key).Type(); {
	case t == ssh.KeyAlgoRSA:
		return "rsa"
	case strings.HasPrefix(t, "ecdsa-"):
		return "ecdsa"
	default:
		return "ed25519"
	}
}

func expandHome(path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		return filepath.Join(home, rest), nil
	}
	return path, nil
}
