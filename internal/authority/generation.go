package authority

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/ledger"
	"github.com/virtrust/virtrust/internal/pki"
)

// PhasesFile is the file, in the directory of an authority, that says which
// generation is in which phase, for machines without the ledger.
const PhasesFile = "phases"

var phaseLine = regexp.MustCompile(`^g([1-9][0-9]{0,3}) (prepared|trusting|issuing|draining|retired|destroyed)$`)

// readPhases reads the file of phases; without one it gives none.
func readPhases(dir string) (map[int]pki.Phase, error) {
	data, err := readRegular(filepath.Join(dir, PhasesFile), 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[int]pki.Phase{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		m := phaseLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%q is not the phase of a generation", line)
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, err
		}
		out[n] = pki.Phase(m[2])
	}
	return out, nil
}

// WritePhases writes the public file of phases as the ledger knows them.
func WritePhases(ctx context.Context, name, dir string, l *ledger.Ledger) error {
	known, err := l.Generations(ctx, name)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# Which generation of authority " + name + " is where. Written by virtrust; commit it.\n")
	for _, g := range known {
		fmt.Fprintf(&b, "g%d %s\n", g.Number, g.Phase)
	}
	return replaceFile(filepath.Join(dir, PhasesFile), []byte(b.String()), 0o644)
}

// Next makes the generation after the last one of a local authority: its key,
// encrypted with the passphrase of p, its certificate and an empty revocation
// list, in the given phase. Nothing is ever overwritten.
func Next(ctx context.Context, p Params, phase pki.Phase, l *ledger.Ledger) (pki.Generation, error) {
	var none pki.Generation
	fail := func(err error) (pki.Generation, error) {
		return none, fmt.Errorf("making a generation of authority %s: %w", p.Name, err)
	}
	if p.KeyDir == "" {
		p.KeyDir = p.Dir
	}
	if p.Now.IsZero() {
		p.Now = time.Now()
	}
	if p.Passphrase.Empty() {
		return fail(errors.New("the passphrase is empty"))
	}
	if have, err := Read(p.Name, p.Dir); err != nil {
		return none, err
	} else if len(have.Generations) == 0 {
		return fail(ErrNotInitialised)
	}
	if err := stillWaits(p.Dir); err != nil {
		return fail(err)
	}
	number, err := nextNumber(ctx, p.Name, p.Dir, l)
	if err != nil {
		return fail(err)
	}
	g, err := p.generate(ctx, number, phase, l)
	if err != nil {
		return fail(err)
	}
	return g, WritePhases(ctx, p.Name, p.Dir, l)
}

// generate makes the key of a generation, its certificate and an empty
// revocation list, writes them and records the generation.
func (p Params) generate(ctx context.Context, number int, phase pki.Phase, l *ledger.Ledger) (pki.Generation, error) {
	var none pki.Generation
	key, err := newKey(p.KeyAlgorithm)
	if err != nil {
		return none, err
	}
	defer wipeKey(key)
	serial, err := pki.NewSerial(rand.Reader)
	if err != nil {
		return none, err
	}
	cert, err := pki.NewAuthority(p.Now, pki.CAProfile{Organization: p.Organization, Name: p.Name, Number: number, Lifetime: p.Lifetime}, key, serial)
	if err != nil {
		return none, err
	}
	list, err := pki.NewCRL(p.Now, cert, key, 1, nil, crlValidity)
	if err != nil {
		return none, err
	}
	sealed, err := sealKey(key, p.Passphrase, p.workFactor)
	if err != nil {
		return none, fmt.Errorf("encrypting its key: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	written, err := writeGeneration(p, number, sealed, cert, list)
	if err != nil {
		return none, errors.Join(err, removeAll(written))
	}
	g := pki.NewGeneration(number, phase, cert)
	g.CRL, g.CRLNumber = list.Raw, 1
	return g, record(ctx, p.Run, p.Name, g, written, l)
}

// record adds a generation to the ledger. Where that fails its files are removed,
// unless the ledger has it: a commit that failed may have been carried out.
func record(ctx context.Context, run, name string, g pki.Generation, written []string, l *ledger.Ledger) error {
	err := l.AddGeneration(ctx, run, name, g)
	if err == nil {
		return nil
	}
	known, readErr := l.Generations(context.WithoutCancel(ctx), name)
	if readErr != nil || slices.ContainsFunc(known, func(k ledger.Generation) bool { return k.Number == g.Number }) {
		return errors.Join(err, readErr)
	}
	return errors.Join(err, removeAll(written))
}

func makeDirs(p Params) error {
	if err := os.MkdirAll(p.KeyDir, keyDirMode(p)); err != nil {
		return err
	}
	return os.MkdirAll(p.Dir, 0o755) //nolint:gosec // G301: public files, committed with the configuration
}

// writeGeneration writes the three files of a generation, the key first, and
// gives the paths of those that were written.
func writeGeneration(p Params, number int, sealed []byte, cert *x509.Certificate, list *x509.RevocationList) ([]string, error) {
	if err := makeDirs(p); err != nil {
		return nil, err
	}
	var written []string
	for _, f := range []struct {
		path string
		data []byte
		mode os.FileMode
	}{
		{filepath.Join(p.KeyDir, keyName(number)), sealed, 0o600},
		{filepath.Join(p.Dir, certName(number)), pki.RenderCerts(cert), 0o644},
		{filepath.Join(p.Dir, crlName(number)), pki.RenderCRLs(list.Raw), 0o644},
	} {
		if err := writeNew(f.path, f.data, f.mode); err != nil {
			return written, err
		}
		written = append(written, f.path)
	}
	return written, nil
}

func removeAll(paths []string) error {
	var err error
	for _, p := range slices.Backward(paths) {
		err = errors.Join(err, os.Remove(p))
	}
	return err
}

// Destroy removes the encrypted key of a generation for good. A key that is not
// there is no error: it may have been kept elsewhere and removed there.
func Destroy(keyDir string, number int) error {
	path := filepath.Join(keyDir, keyName(number))
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncDir(keyDir)
}

// HasKey tells whether the encrypted key of a generation is in a directory.
func HasKey(keyDir string, number int) bool {
	_, err := os.Lstat(filepath.Join(keyDir, keyName(number)))
	return err == nil
}
