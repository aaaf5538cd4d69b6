package remote

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // G505: the format of known_hosts
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// maxKnownHosts bounds the size of a known_hosts file that is listed.
const maxKnownHosts = 64 << 20

// KnownNames is what a known_hosts file says about hosts.
type KnownNames struct {
	Hosts []KnownName // in the order of the file, each once
	// Hashed counts entries whose names cannot be read and that no guess fits.
	Hashed int
	// Passed counts lines that name no single host: patterns, authorities,
	// revoked keys, and lines that cannot be read.
	Passed int
}

// KnownName is one host of a known_hosts file.
type KnownName struct {
	Name    string // its first name or address
	Aliases []string
	Port    int // 22 where the entry has none
}

// ListKnown lists the hosts of a known_hosts file. Hashed entries are compared
// with guesses, names that the caller knows. The error is that of the file.
func ListKnown(path string, guesses []string) (*KnownNames, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxKnownHosts {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, maxKnownHosts>>20)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := &KnownNames{}
	at := map[string]bool{}
	add := func(name string, port int, aliases []string) {
		if key := net.JoinHostPort(name, strconv.Itoa(port)); !at[key] {
			at[key] = true
			out.Hosts = append(out.Hosts, KnownName{Name: name, Aliases: aliases, Port: port})
		}
	}
	hashes := map[string]bool{}
	for _, line := range bytes.Split(text, []byte("\n")) {
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		marker, names, _, _, _, err := ssh.ParseKnownHosts(line)
		if err != nil || marker != "" || len(names) == 0 {
			out.Passed++
			continue
		}
		if strings.HasPrefix(names[0], "|") {
			if hashes[names[0]] {
				continue
			}
			hashes[names[0]] = true
			if name, port, ok := guess(names[0], guesses); ok {
				add(name, port, nil)
			} else {
				out.Hashed++
			}
			continue
		}
		var plain []string
		port := 22
		for _, n := range names {
			if strings.ContainsAny(n, "*?!") {
				continue
			}
			if h, p, err := net.SplitHostPort(n); err == nil && strings.HasPrefix(n, "[") {
				if number, err := strconv.Atoi(p); err == nil {
					n, port = h, number
				}
			}
			plain = append(plain, n)
		}
		if len(plain) == 0 {
			out.Passed++
			continue
		}
		add(plain[0], port, plain[1:])
	}
	return out, nil
}

// guess finds which name a hashed entry stands for: |1|SALT|HMAC.
func guess(entry string, names []string) (name string, port int, ok bool) {
	salt, want, ok := hashedEntry(entry)
	if !ok {
		return "", 0, false
	}
	for _, n := range names {
		if hmac.Equal(hashName(salt, []byte(n)), want) {
			return n, 22, true
		}
	}
	return "", 0, false
}

// hashedEntry reads a name that ssh hashed.
func hashedEntry(entry string) (salt, sum []byte, ok bool) {
	parts := strings.Split(entry, "|")
	if len(parts) != 4 || parts[1] != "1" {
		return nil, nil, false
	}
	salt, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, nil, false
	}
	sum, err = base64.StdEncoding.DecodeString(parts[3])
	return salt, sum, err == nil
}

func hashName(salt, name []byte) []byte {
	h := hmac.New(sha1.New, salt)
	h.Write(name)
	return h.Sum(nil)
}
