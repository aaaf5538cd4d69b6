package authority

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/virtrust/virtrust/internal/ledger"
)

// A Folder is where requests wait for a CA on a separate computer:
// HOST.CERTIFICATE.KEY.csr is a request, and the signed chain is expected beside
// it as HOST.CERTIFICATE.KEY.crt, PEM, leaf first. KEY is the beginning of the
// SHA-256 of the request's public key, so that a certificate of an older key is
// not taken for the answer.
type Folder struct {
	Dir string // absolute
}

// OpenFolder opens an authority that signs on a separate computer.
func OpenFolder(ctx context.Context, name, dir, run string, f Folder, l *ledger.Ledger) (*External, error) {
	if !filepath.IsAbs(f.Dir) {
		return nil, fmt.Errorf("authority %s: the folder of requests %q is no absolute path", name, f.Dir)
	}
	return openExternal(ctx, name, dir, run, f, l)
}

// Stem is the name, without its ending, of a request's files in a folder.
func (f Folder) Stem(r Request) string {
	digest := r.CSR.KeyDigest()
	return fmt.Sprintf("%s.%s.%s", r.Host, r.Profile.Name, hex.EncodeToString(digest[:6]))
}

func (f Folder) request(ctx context.Context, r Request) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	stem := filepath.Join(f.Dir, f.Stem(r))
	signed, err := readRegular(stem+".crt", maxAnswer)
	if err == nil {
		chain, err := parseChain(signed)
		if err != nil {
			return nil, fmt.Errorf("%s.crt: %w", stem, err)
		}
		return chain, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s.crt: %w", stem, err)
	}
	if err := os.MkdirAll(f.Dir, 0o755); err != nil { //nolint:gosec // G301: requests hold nothing secret
		return nil, err
	}
	err = writeNew(stem+".csr", requestPEM(r), 0o644)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: sign %s.csr and put the chain beside it as %s.crt, then apply again", ErrPending, stem, filepath.Base(stem))
}

// Waiting lists the requests of a folder that nobody has signed yet, by the
// paths of their files.
func (f Folder) Waiting() ([]string, error) {
	all, err := filepath.Glob(filepath.Join(f.Dir, "*.csr"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range all {
		if _, err := os.Lstat(p[:len(p)-len("csr")] + "crt"); errors.Is(err, fs.ErrNotExist) {
			out = append(out, p)
		}
	}
	return out, nil
}
