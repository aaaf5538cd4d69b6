// Pairwatch reads a certificate and its key through their public names on a
// host, again and again, and reports every moment at which they did not belong
// together. It runs on the host until a file appears.
//
// pairwatch STOP CERT KEY...
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Seen is what was seen of one pair.
type Seen struct {
	Cert   string
	Whole  int      // reads that found a pair
	Mixed  []string // reads that found a certificate with another key
	Gone   int      // reads that found a name missing, after a pair was seen
	Leaves int      // different certificates
}

func main() {
	stop, names := os.Args[1], os.Args[2:]
	all := make([]Seen, len(names)/2)
	last := make([][]byte, len(all))
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
		for i := range all {
			watch(&all[i], &last[i], names[2*i], names[2*i+1])
		}
		if _, err := os.Stat(stop); err == nil {
			break
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(all)
}

// watch reads certificate, key and certificate: where both reads of the
// certificate agree, the key between them was its companion.
func watch(s *Seen, last *[]byte, certName, keyName string) {
	s.Cert = certName
	before, err1 := os.ReadFile(certName)
	key, err2 := os.ReadFile(keyName)
	after, err3 := os.ReadFile(certName)
	if err := errors.Join(err1, err2, err3); err != nil {
		if s.Whole > 0 && errors.Is(err, fs.ErrNotExist) {
			s.Gone++
		}
		return
	}
	if !bytes.Equal(before, after) {
		return
	}
	if _, err := tls.X509KeyPair(before, key); err != nil {
		s.Mixed = append(s.Mixed, fmt.Sprintf("%s: %v", time.Now().Format(time.StampMicro), err))
		return
	}
	s.Whole++
	if !bytes.Equal(before, *last) {
		s.Leaves++
		*last = before
	}
}
