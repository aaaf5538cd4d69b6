package authority

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// A Waiting is a generation of a local authority that lacks its certificate: its
// key is here, sealed, and somebody else, such as a root that is kept offline,
// signs the request gN.csr.
type Waiting struct {
	Number int    // of the generation
	Path   string // of the request
	CSR    *pki.CSR
}

// PEM is the request as its file has it.
func (w Waiting) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: w.CSR.Request.Raw})
}

var requestFile = regexp.MustCompile(`^g([1-9][0-9]{0,3})\.csr$`)

func requestName(number int) string { return fmt.Sprintf("g%d.csr", number) }

// Waits finds the generation that waits for its certificate among the public
// files in dir: there is one at most.
func Waits(dir string) (Waiting, bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Waiting{}, false, nil
	} else if err != nil {
		return Waiting{}, false, err
	}
	for _, e := range entries {
		m := requestFile.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		w := Waiting{Path: filepath.Join(dir, e.Name())}
		if w.Number, err = strconv.Atoi(m[1]); err != nil {
			return w, false, err
		}
		data, err := readRegular(w.Path, pki.MaxCSR)
		if err == nil {
			w.CSR, err = pki.ParseCSR(data)
		}
		if err != nil {
			return w, false, fmt.Errorf("%s: %w", w.Path, err)
		}
		return w, true, nil
	}
	return Waiting{}, false, nil
}

// RequestCertificate makes the key of the next generation of a local authority,
// encrypted with the passphrase of p, and the request for its certificate, which
// ImportSigned brings in. A generation that waits already is given as it is: no
// second key is made. The lifetime of p does not count, it is the signer's to
// choose. The ledger learns of the generation when its certificate comes.
func RequestCertificate(ctx context.Context, p Params, l *ledger.Ledger) (Waiting, error) {
	fail := func(err error) (Waiting, error) {
		return Waiting{}, fmt.Errorf("requesting a certificate for authority %s: %w", p.Name, err)
	}
	if p.KeyDir == "" {
		p.KeyDir = p.Dir
	}
	if p.Now.IsZero() {
		p.Now = time.Now()
	}
	if w, ok, err := Waits(p.Dir); err != nil {
		return fail(err)
	} else if ok {
		return w, nil
	}
	if p.Passphrase.Empty() {
		return fail(errors.New("the passphrase is empty"))
	}
	number, err := nextNumber(ctx, p.Name, p.Dir, l)
	if err != nil {
		return fail(err)
	}
	keyPath := filepath.Join(p.KeyDir, keyName(number))
	if _, err := os.Lstat(keyPath); err == nil {
		return fail(fmt.Errorf("%w: there is %s without its request or certificate; bring those back, or, if it was never used, remove it and try again", ErrHalfMade, keyPath))
	}
	key, err := newKey(p.KeyAlgorithm)
	if err != nil {
		return fail(err)
	}
	defer wipeKey(key)
	der, err := pki.NewAuthorityRequest(pki.CAProfile{Organization: p.Organization, Name: p.Name, Number: number}, key)
	if err != nil {
		return fail(err)
	}
	csr, err := pki.ParseCSR(der)
	if err != nil {
		return fail(err)
	}
	sealed, err := sealKey(key, p.Passphrase, p.workFactor)
	if err != nil {
		return fail(fmt.Errorf("encrypting its key: %w", err))
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	w := Waiting{Number: number, Path: filepath.Join(p.Dir, requestName(number)), CSR: csr}
	if err := makeDirs(p); err != nil {
		return fail(err)
	}
	if err := writeNew(keyPath, sealed, 0o600); err != nil {
		return fail(err)
	}
	if err := writeNew(w.Path, w.PEM(), 0o644); err != nil {
		return fail(errors.Join(err, os.Remove(keyPath)))
	}
	return w, nil
}

// nextNumber is that of the generation after the last one of an authority, whose
// files and ledger have to belong together.
func nextNumber(ctx context.Context, name, dir string, l *ledger.Ledger) (int, error) {
	if err := pki.CheckLabel(name); err != nil {
		return 0, err
	}
	if l == nil {
		return 0, ledger.ErrMissing
	}
	have, err := Read(name, dir)
	if err != nil {
		return 0, err
	}
	if err := l.Check(ctx, have); err != nil {
		return 0, err
	}
	known, err := l.Generations(ctx, name)
	if err != nil {
		return 0, err
	}
	number := 0
	for _, g := range have.Generations {
		number = max(number, g.Number)
	}
	for _, g := range known { // those destroyed long ago may have no files
		number = max(number, g.Number)
	}
	return number + 1, nil
}

// stillWaits is the error where a generation waits that would be in the way.
func stillWaits(dir string) error {
	w, ok, err := Waits(dir)
	if err == nil && ok {
		err = fmt.Errorf("%w: generation %d, by %s", ErrWaiting, w.Number, w.Path)
	}
	return err
}
