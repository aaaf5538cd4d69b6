package main

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// identity is what one end of a connection resolves.
type identity struct{ name, cert, key, ca string }

// identities are the default paths of libvirt, and those that QEMU finds in the
// directory that qemu.conf names.
var identities = []identity{
	{"server", "/etc/pki/libvirt/servercert.pem", "/etc/pki/libvirt/private/serverkey.pem", "/etc/pki/CA/cacert.pem"},
	{"client", "/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem", "/etc/pki/CA/cacert.pem"},
	{"QEMU server", "/etc/pki/qemu/server-cert.pem", "/etc/pki/qemu/server-key.pem", "/etc/pki/qemu/ca-cert.pem"},
	{"QEMU client", "/etc/pki/qemu/client-cert.pem", "/etc/pki/qemu/client-key.pem", "/etc/pki/qemu/ca-cert.pem"},
}

// read is a file's content, or why there is none.
func read(path string) (string, string) {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", "absent"
	case err != nil:
		return "", err.Error()
	case len(b) == 0:
		return "", "empty"
	}
	return string(b), ""
}

// sign is what changes whenever the file behind a name does.
func sign(path string) (s signature) {
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil {
		s = signature{st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
	}
	return s
}

type signature struct {
	ino          uint64
	size         int64
	mtime, ctime int64
}

// moment is how the three names stand.
type moment struct{ ca, cert, key signature }

func at(id identity) moment { return moment{sign(id.ca), sign(id.cert), sign(id.key)} }

type trio struct {
	cert, key, ca       string
	noCert, noKey, noCA string
}

func look(id identity) (t trio) {
	t.ca, t.noCA = read(id.ca)
	t.cert, t.noCert = read(id.cert)
	t.key, t.noKey = read(id.key)
	return t
}

// pairs is O1.
func (w *watch) pairs(first func()) {
	whole := make([]bool, len(identities))
	trust := map[string]bool{}
	verdicts := map[trio]string{}
	seen := make([]moment, len(identities)) // last one that was read and found whole
	for !w.stopped() {
		for i, id := range identities {
			now := at(id)
			if whole[i] && now == seen[i] {
				w.mu.Lock()
				w.rep.Samples++
				w.mu.Unlock()
				continue
			}
			// Two rounds that are equal show one moment between them.
			if now != at(id) {
				continue
			}
			a := look(id)
			if a != look(id) || now != at(id) {
				continue
			}
			w.mu.Lock()
			w.rep.Samples++
			w.mu.Unlock()
			switch {
			case a.noCA == "":
				trust[id.ca] = true
			case a.noCA != "absent":
				w.violate("O1", "%s: %s", id.ca, a.noCA)
			case trust[id.ca] && !w.Fresh:
				w.violate("O1", "%s is gone", id.ca)
			}
			if a.noCert == "absent" && a.noKey == "absent" {
				if whole[i] && !w.Fresh {
					w.violate("O1", "the %s pair is gone", id.name)
				}
				continue
			}
			if a.noCert != "" || a.noKey != "" {
				w.violate("O1", "half a %s pair: certificate %s, key %s", id.name, said(a.noCert), said(a.noKey))
				continue
			}
			v, known := verdicts[a]
			if !known {
				v = judge(a)
				verdicts[a] = v
			}
			if v != "" {
				w.violate("O1", "%s pair: %s", id.name, v)
				continue
			}
			whole[i], seen[i] = true, now
			if id.name == "server" && !known {
				block, _ := pem.Decode([]byte(a.cert))
				w.mu.Lock()
				w.rep.Disk = digest(block.Bytes)
				w.leaves[w.rep.Disk] = true
				w.mu.Unlock()
			}
		}
		first()
		time.Sleep(w.every(2 * time.Millisecond))
	}
	if c, no := read(identities[0].cert); no == "" {
		if block, _ := pem.Decode([]byte(c)); block != nil {
			w.mu.Lock()
			w.rep.Disk = digest(block.Bytes)
			w.mu.Unlock()
		}
	}
}

func said(no string) string {
	if no == "" {
		return "there"
	}
	return no
}

// judge asks what libvirtd asks when it loads the three files.
func judge(t trio) string {
	block, _ := pem.Decode([]byte(t.cert))
	if block == nil {
		return "the certificate is no PEM"
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err.Error()
	}
	block, _ = pem.Decode([]byte(t.key))
	if block == nil {
		return "the key is no PEM"
	}
	key, err := parseKey(block.Bytes)
	if err != nil {
		return err.Error()
	}
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(leaf.PublicKey) {
		return "the key does not belong to the certificate"
	}
	if t.noCA != "" {
		return "no authority: " + t.noCA
	}
	for rest := []byte(t.ca); ; {
		if block, rest = pem.Decode(rest); block == nil {
			return "no authority in the bundle signed the certificate"
		}
		if ca, err := x509.ParseCertificate(block.Bytes); err == nil && leaf.CheckSignatureFrom(ca) == nil {
			return ""
		}
	}
}

func parseKey(der []byte) (crypto.Signer, error) {
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return k.(crypto.Signer), nil
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, nil
	}
	return x509.ParsePKCS1PrivateKey(der)
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
