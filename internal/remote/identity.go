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
// parsed once, and one connection to the agent serves all hosts.
type identities struct {
	passphrase func(ctx context.Context, file string) ([]byte, error)

	mu    sync.Mutex
	files map[string]*keyFileEntry

	agentOnce sync.Once
	agentConn net.Conn
	agentKeys []ssh.Signer
	agentErr  error
}

type keyFileEntry struct {
	once   sync.Once
	signer ssh.Signer    // nil when the key cannot be used from the file
	public ssh.PublicKey // known also for an encrypted key with a .pub beside it
	err    error
}

// signers returns the keys to offer to e, at most [maxKeys]. notes say why
// files that were named or found gave no key.
func (s *identities) signers(ctx context.Context, e Endpoint) (keys []ssh.Signer, notes []error) {
	fromAgent, agentErr := s.agent()
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
	files := e.Identity
	if len(files) == 0 {
		if agentErr != nil {
			notes = append(notes, agentErr)
		}
		for _, k := range fromAgent {
			add(k)
		}
		files = defaultIdentities()
	}
	for _, file := range files {
		if len(keys) == maxKeys {
			break
		}
		k := s.file(ctx, file, fromAgent)
		switch {
		case k.signer != nil:
			add(k.signer)
		case len(e.Identity) == 0 && errors.Is(k.err, fs.ErrNotExist):
		default:
			notes = append(notes, k.err)
		}
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

// agent asks the agent for its keys, once.
func (s *identities) agent() ([]ssh.Signer, error) {
	s.agentOnce.Do(func() {
		socket := os.Getenv("SSH_AUTH_SOCK")
		if socket == "" {
			return
		}
		conn, err := net.DialTimeout("unix", socket, dialTimeout)
		if err != nil {
			s.agentErr = fmt.Errorf("ssh-agent: %w", err)
			return
		}
		_ = conn.SetDeadline(time.Now().Add(dialTimeout))
		signers, err := agent.NewClient(conn).Signers()
		_ = conn.SetDeadline(time.Time{})
		if err != nil {
			_ = conn.Close()
			s.agentErr = fmt.Errorf("ssh-agent: %w", err)
			return
		}
		s.mu.Lock()
		s.agentConn = conn
		s.mu.Unlock()
		for _, k := range signers {
			s.agentKeys = append(s.agentKeys, modern(k))
		}
	})
	return s.agentKeys, s.agentErr
}

func (s *identities) file(ctx context.Context, path string, fromAgent []ssh.Signer) *keyFileEntry {
	s.mu.Lock()
	k := s.files[path]
	if k == nil {
		k = &keyFileEntry{}
		if s.files == nil {
			s.files = map[string]*keyFileEntry{}
		}
		s.files[path] = k
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
	if k.useAgent(fromAgent) {
		return
	}
	info, err := os.Stat(name)
	if err != nil {
		k.err = fmt.Errorf("identity: %w", err)
		return
	}
	if info.Mode().Perm()&0o077 != 0 {
		k.err = fmt.Errorf("identity %s: others may read it (mode %04o): chmod 600 it", name, info.Mode().Perm())
		return
	}
	data, err := os.ReadFile(name)
	if err != nil {
		k.err = fmt.Errorf("identity: %w", err)
		return
	}
	defer clear(data)
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
	if !ok || k.PublicKey().Type() != ssh.KeyAlgoRSA {
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
	if s.agentConn == nil {
		return nil
	}
	return s.agentConn.Close()
}
