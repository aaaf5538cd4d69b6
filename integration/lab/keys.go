package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// A keyPair is an SSH key in OpenSSH's own formats.
type keyPair struct {
	private []byte // PEM
	public  []byte // one line of an authorized_keys file
}

func newKeyPair(key crypto.Signer, comment string) (keyPair, error) {
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return keyPair{}, fmt.Errorf("lab: encode an SSH key: %w", err)
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return keyPair{}, fmt.Errorf("lab: encode an SSH key: %w", err)
	}
	return keyPair{private: pem.EncodeToMemory(block), public: ssh.MarshalAuthorizedKey(public)}, nil
}

func newEd25519Key(comment string) (keyPair, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("lab: make an SSH key: %w", err)
	}
	return newKeyPair(key, comment)
}

func newECDSAKey(comment string) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("lab: make an SSH key: %w", err)
	}
	return newKeyPair(key, comment)
}

// writeClientKey makes the key pair that the hosts of a lab let in.
func writeClientKey(dir, id string) error {
	pair, err := newEd25519Key("lab " + id)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "identity"), pair.private, 0o600); err != nil {
		return fmt.Errorf("lab: write the client key: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "identity.pub"), pair.public, 0o644); err != nil {
		return fmt.Errorf("lab: write the client key: %w", err)
	}
	return nil
}

// addKnownHost appends a host's keys, under all its names and addresses, to a
// known_hosts file.
func addKnownHost(path string, h *Host, keys ...keyPair) error {
	names := append(h.names(), h.Addresses.list()...)
	var text strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&text, "%s %s", strings.Join(names, ","), k.public)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("lab: write known_hosts: %w", err)
	}
	_, err = f.WriteString(text.String())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("lab: write known_hosts: %w", err)
	}
	return nil
}
