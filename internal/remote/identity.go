package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// maxKeys is how many keys are offered to a host: sshd's default allows six
// tries, and a refused one counts against our source address.
const maxKeys = 5

// identities holds the private keys of one run: each file is read and each key
// parsed once, and one connection to an agent serves all hosts.
type identities struct {
	passphrase func(ctx context.Context, file string) ([]byte, error)

	mu     sync.Mutex
	files  map[string]*keyFileEntry
	agents map[string]*agentKeys // by socket
}

// agentKeys are the keys that one agent holds.
type agentKeys struct {
	once sync.Once
	conn net.Conn
	keys []ssh.Signer
	err  error
}

type keyFileEntry struct {
	once   sync.Once
	signer ssh.Signer    // nil when the key cannot be used from the file
	public ssh.PublicKey // known also for an encrypted key with a .pub beside it
	certs  []*ssh.Certificate
	err    error
}

// signers returns the keys to offer on a way, at most [maxKeys]: those that were
// named, each behind its certificates, then the rest of the agent's. notes say
// why files that were named or found gave no key.
func (s *identities) signers(ctx context.Context, w *way) (keys []ssh.Signer, notes []error) {
	agent := s.agent(w.agent)
	add := func(k ssh.Signer) {
		for _, have := range keys {
			if bytes.Equal(have.PublicKey().Marshal(), k.PublicKey().Marshal()) {
				return
			}
		}
		if len(keys) < maxKeys {
			keys = append(keys, k)
		}
	}
	certs, failed := readCertificates(w.certificates)
	notes = append(notes, failed...)
	with := func(k ssh.Signer, certs []*ssh.Certificate) {
		for _, c := range certs {
			signer, err := certified(k, c)
			switch {
			case errors.Is(err, errOtherKey):
			case err != nil:
				notes = append(notes, err)
			default:
				add(signer)
			}
		}
	}
	named := len(w.Identity) > 0
	files := w.Identity
	if !named {
		files = defaultIdentities()
	}
	fromFiles := func() {
		for _, file := range files {
			if len(keys) == maxKeys {
				return
			}
			k := s.file(ctx, file, w.agent, agent.keys)
			switch {
			case k.signer != nil:
				with(k.signer, append(certs, k.certs...))
				add(k.signer)
			case !named && errors.Is(k.err, fs.ErrNotExist):
			default:
				notes = append(notes, k.err)
			}
		}
	}
	if named {
		fromFiles()
	}
	if !w.identitiesOnly {
		if agent.err != nil {
			notes = append(notes, agent.err)
		}
		for _, k := range agent.keys {
			with(k, certs)
		}
		for _, k := range agent.keys {
			add(k)
		}
	}
	if !named {
		fromFiles()
	}
	return keys, notes
}

func defaultIdentities() []string {
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	var out []string
	for _, n := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		out = append(out, filepath.Join(home, ".ssh", n))
	}
	return out
}

// agent asks the agent at a socket for its keys, once.
func (s *identities) agent(socket string) *agentKeys {
	s.mu.Lock()
	a := s.agents[socket]
	if a == nil {
		a = &agentKeys{}
		if s.agents == nil {
			s.agents = map[string]*agentKeys{}
		}
		s.agents[socket] = a
	}
	s.mu.Unlock()
	a.once.Do(func() {
		if socket == "" {
			return
		}
		conn, err := net.DialTimeout("unix", socket, dialTimeout)
		if err != nil {
			a.err = fmt.Errorf("ssh-agent: %w", err)
			return
		}
		_ = conn.SetDeadline(time.Now().Add(dialTimeout))
		signers, err := agent.NewClient(conn).Signers()
		_ = conn.SetDeadline(time.Time{})
		if err != nil {
			_ = conn.Close()
			a.err = fmt.Errorf("ssh-agent: %w", err)
			return
		}
		s.mu.Lock()
		a.conn = conn
		s.mu.Unlock()
		for _, k := range signers {
			if c, ok := k.PublicKey().(*ssh.Certificate); ok && validNow(c) != nil {
				continue
			}
			a.keys = append(a.keys, modern(k))
		}
	})
	return a
}

// file reads a key file. An agent may hold its key, so the answer belongs to
// one agent.
func (s *identities) file(ctx context.Context, path, socket string, fromAgent []ssh.Signer) *keyFileEntry {
	id := socket + "\x00" + path
	s.mu.Lock()
	k := s.files[id]
	if k == nil {
		k = &keyFileEntry{}
		if s.files == nil {
			s.files = map[string]*keyFileEntry{}
		}
		s.files[id] = k
	}
	s.mu.Unlock()
	k.once.Do(func() { k.load(ctx, path, fromAgent, s.passphrase) })
	return k
}

func (k *keyFileEntry) load(ctx context.Context, path string, fromAgent []ssh.Signer, ask func(context.Context, string) ([]byte, error)) {
	name, err := expandHome(path)
	if err != nil {
		k.err = err
		return
	}
	if pub, err := os.ReadFile(name + ".pub"); err == nil {
		k.public, _, _, _, _ = ssh.ParseAuthorizedKey(pub)
	}
	if cert, err := readCertificate(name + "-cert.pub"); err == nil {
		k.certs = append(k.certs, cert)
	}
	if k.useAgent(fromAgent) {
		return
	}
	info, err := os.Stat(name)
	if err != nil {
		k.err = fmt.Errorf("identity: %w", err)
		return
	}
	data, err := os.ReadFile(name)
	if err != nil {
		k.err = fmt.Errorf("identity: %w", err)
		return
	}
	defer clear(data)
	// A public key as identity names one that the agent holds.
	if public, _, _, _, err := ssh.ParseAuthorizedKey(data); err == nil {
		if k.public = public; !k.useAgent(fromAgent) {
			k.err = fmt.Errorf("identity %s is a public key, and no agent holds its private key", name)
		}
		return
	}
	if info.Mode().Perm()&0o077 != 0 {
		k.err = fmt.Errorf("identity %s: others may read it (mode %04o): chmod 600 it", name, info.Mode().Perm())
		return
	}
	signer, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if locked.PublicKey != nil {
			k.public = locked.PublicKey
		}
		if k.useAgent(fromAgent) {
			return
		}
		if ask == nil {
			k.err = fmt.Errorf("identity %s is encrypted: add it to the agent (ssh-add %s)", name, name)
			return
		}
		var secret []byte
		if secret, err = ask(ctx, name); err == nil {
			signer, err = ssh.ParsePrivateKeyWithPassphrase(data, secret)
			clear(secret)
		}
	}
	if err != nil {
		k.err = fmt.Errorf("identity %s: %w", name, err)
		return
	}
	k.signer = modern(signer)
}

func (k *keyFileEntry) useAgent(fromAgent []ssh.Signer) bool {
	if k.public == nil {
		return false
	}
	for _, a := range fromAgent {
		if bytes.Equal(a.PublicKey().Marshal(), k.public.Marshal()) {
			k.signer = a
			return true
		}
	}
	return false
}

// modern makes an RSA key sign with SHA-2 only.
func modern(k ssh.Signer) ssh.Signer {
	as, ok := k.(ssh.AlgorithmSigner)
	if t := k.PublicKey().Type(); !ok || t != ssh.KeyAlgoRSA && t != ssh.CertAlgoRSAv01 {
		return k
	}
	m, err := ssh.NewSignerWithAlgorithms(as, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
	if err != nil {
		return k
	}
	return m
}

func (s *identities) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []error
	for _, a := range s.agents {
		if a.conn != nil {
			all = append(all, a.conn.Close())
		}
	}
	return errors.Join(all...)
}
