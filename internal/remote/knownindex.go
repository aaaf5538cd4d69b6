package remote

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// knownIndex finds the keys of a name in known_hosts files without going
// through every line for every host, which the library does twice. It stands in
// for the library only where it says "known": every refusal, and its words, are
// the library's.
type knownIndex struct {
	plain   map[string][]knownLine // by "host:port"
	hashed  []hashedName
	revoked map[string]bool // marshalled keys
}

type knownLine struct {
	at  int // place among all lines
	key ssh.PublicKey
}

type hashedName struct {
	knownLine
	salt, sum []byte
}

// newKnownIndex reads files. It gives nil where a line needs more than a
// comparison of names: patterns, negations, certificate authorities.
func newKnownIndex(files []string) *knownIndex {
	x := &knownIndex{plain: map[string][]knownLine{}, revoked: map[string]bool{}}
	at := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil
		}
		for {
			marker, names, key, _, rest, err := ssh.ParseKnownHosts(text)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || !x.add(marker, names, knownLine{at, key}) {
				return nil
			}
			text = rest
			at++
		}
	}
	return x
}

func (x *knownIndex) add(marker string, names []string, l knownLine) bool {
	switch {
	case marker == "revoked":
		x.revoked[string(plainKey(l.key).Marshal())] = true
		return true
	case marker != "":
		return false
	case strings.HasPrefix(names[0], "|"):
		salt, sum, ok := hashedEntry(names[0])
		if ok && len(names) == 1 {
			x.hashed = append(x.hashed, hashedName{l, salt, sum})
		}
		return ok && len(names) == 1
	}
	for _, n := range names {
		if n == "" || strings.ContainsAny(n, "*?!") {
			return false
		}
		host, port, err := net.SplitHostPort(n)
		if err != nil && n[0] == '[' {
			return false
		}
		if err != nil {
			host, port = n, "22"
		}
		id := net.JoinHostPort(host, port)
		x.plain[id] = append(x.plain[id], l)
	}
	return true
}

// find lists the keys of a name, "host:port", in the order of their lines.
func (x *knownIndex) find(name string) []ssh.PublicKey {
	lines := slices.Clone(x.plain[name])
	if len(x.hashed) > 0 {
		text := []byte(xknownhosts.Normalize(name))
		for _, h := range x.hashed {
			if bytes.Equal(hashName(h.salt, text), h.sum) {
				lines = append(lines, h.knownLine)
			}
		}
	}
	slices.SortFunc(lines, func(a, b knownLine) int { return a.at - b.at })
	var keys []ssh.PublicKey
	for _, l := range lines {
		if !slices.ContainsFunc(keys, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), l.key.Marshal()) }) {
			keys = append(keys, l.key)
		}
	}
	return keys
}
