package pki

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
)

// maxPEM bounds what is read at all, far above what any consumer takes.
const maxPEM = 1 << 20

type pemBlock struct {
	der []byte
	err error
}

// readPEM finds the blocks of the given labels as GnuTLS does: by the words
// "-----BEGIN LABEL", whatever stands between blocks, up to the next
// "-----END". encoding/pem is no use here: it skips a damaged block in
// silence, on which GnuTLS refuses the file. A file ends at its first NUL for
// GnuTLS's callers, which use strlen.
func readPEM(data []byte, labels ...string) ([]pemBlock, error) {
	if len(data) > maxPEM {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(data), maxPEM)
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		data = data[:i]
	}
	var blocks []pemBlock
	for {
		start := -1
		for _, label := range labels {
			i := bytes.Index(data, []byte("-----BEGIN "+label))
			if i >= 0 && (start < 0 || i < start) {
				start = i
			}
		}
		if start < 0 {
			return blocks, nil
		}
		data = data[start+len("-----BEGIN "):]
		head := bytes.Index(data, []byte("-----"))
		if head < 0 {
			return append(blocks, pemBlock{err: errors.New("its BEGIN line does not end")}), nil
		}
		data = data[head+len("-----"):]
		end := bytes.Index(data, []byte("-----END"))
		if end < 0 {
			return append(blocks, pemBlock{err: errors.New("its END line is missing")}), nil
		}
		body := bytes.Map(func(r rune) rune {
			if r == ' ' || r == '\t' || r == '\r' || r == '\n' || r == '\v' || r == '\f' {
				return -1
			}
			return r
		}, data[:end])
		data = data[end+len("-----END"):]
		der := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
		n, err := base64.StdEncoding.Decode(der, body)
		if err == nil && n == 0 {
			err = errors.New("it is empty")
		}
		blocks = append(blocks, pemBlock{der: der[:n], err: err})
	}
}
