package authority

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"

	"github.com/virtrust/virtrust/internal/pki"
)

// Bounds of files, in bytes.
const (
	maxCertFile = 64 << 10
	maxCRLFile  = 1 << 20
	maxKeyFile  = 64 << 10
)

var publicName = regexp.MustCompile(`^g([1-9][0-9]{0,3})\.(crt|crl)$`)

// ourSubject is the form of the names that Init gives, see CAProfile.CommonName.
var ourSubject = regexp.MustCompile(`^(.+ )?[a-z0-9][a-z0-9-]* g[0-9]+$`)

func certName(number int) string { return fmt.Sprintf("g%d.crt", number) }
func crlName(number int) string  { return fmt.Sprintf("g%d.crl", number) }
func keyName(number int) string  { return fmt.Sprintf("g%d.key.age", number) }

// Read loads the public files of the authority name from dir: gN.crt, the
// certificate of generation N, and gN.crl, its newest revocation list. It needs
// no key and no ledger. An authority that is not initialised, with a missing
// directory or no such files in it, has no generations; that is no error.
//
// The file phases says where each generation stands. Without it the newest
// counts as issuing and older ones as draining; a ledger knows better, see
// ledger.Trust.
func Read(name, dir string) (pki.Authority, error) {
	a := pki.Authority{Name: name}
	fail := func(file string, err error) (pki.Authority, error) {
		return pki.Authority{Name: name}, fmt.Errorf("authority %s: %s: %w", name, filepath.Join(dir, file), err)
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	} else if err != nil {
		return fail("", err)
	}
	lists := map[int]bool{}
	for _, e := range entries {
		m := publicName.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		number, err := strconv.Atoi(m[1])
		if err != nil {
			return fail(e.Name(), err)
		}
		if m[2] == "crl" {
			lists[number] = true
			continue
		}
		g, err := readGeneration(name, number, filepath.Join(dir, e.Name()))
		if err != nil {
			return fail(e.Name(), err)
		}
		a.Generations = append(a.Generations, g)
	}
	slices.SortFunc(a.Generations, func(x, y pki.Generation) int { return x.Number - y.Number })
	said, err := readPhases(dir)
	if err != nil {
		return fail(PhasesFile, err)
	}
	for i := range a.Generations {
		g := &a.Generations[i]
		if i < len(a.Generations)-1 {
			g.Phase = pki.PhaseDraining
		}
		if phase, ok := said[g.Number]; ok {
			g.Phase = phase
		}
		if !lists[g.Number] {
			continue
		}
		delete(lists, g.Number)
		if err := readCRL(g, filepath.Join(dir, crlName(g.Number))); err != nil {
			return fail(crlName(g.Number), err)
		}
	}
	for number := range lists {
		return fail(crlName(number), fmt.Errorf("there is a revocation list but no certificate %s", certName(number)))
	}
	if err := a.Validate(); err != nil {
		return fail("", err)
	}
	return a, nil
}

func readGeneration(name string, number int, path string) (pki.Generation, error) {
	var none pki.Generation
	data, err := readRegular(path, maxCertFile)
	if err != nil {
		return none, err
	}
	bundle := pki.ParseBundle(data)
	if len(bundle.Problems) > 0 {
		return none, errors.New(bundle.Problems[0].Text)
	}
	if len(bundle.Certs) == 0 {
		return none, errors.New("there is no certificate in it")
	}
	cert := bundle.Certs[0]
	p := pki.CAProfile{Name: name, Number: number}
	if len(cert.Subject.Organization) > 0 {
		p.Organization = cert.Subject.Organization[0]
	}
	// A subject of another form is that of somebody else's CA.
	if ourSubject.MatchString(cert.Subject.CommonName) && cert.Subject.CommonName != p.CommonName() {
		return none, fmt.Errorf("it is the certificate of %q, not of %q: the file is misplaced or renamed", cert.Subject.CommonName, p.CommonName())
	}
	if !cert.IsCA || !cert.BasicConstraintsValid {
		return none, fmt.Errorf("%q is no CA", cert.Subject.CommonName)
	}
	g := pki.NewGeneration(number, pki.PhaseIssuing, cert)
	for i, c := range bundle.Certs {
		parent := c
		if i+1 < len(bundle.Certs) {
			parent = bundle.Certs[i+1]
		}
		if err := c.CheckSignatureFrom(parent); err != nil {
			return none, fmt.Errorf("certificate %d of the file is not signed by %s: %w", i+1, map[bool]string{true: "itself", false: "the next"}[parent == c], err)
		}
		if i > 0 {
			g.Parents = append(g.Parents, c.Raw)
		}
	}
	return g, nil
}

func readCRL(g *pki.Generation, path string) error {
	data, err := readRegular(path, maxCRLFile)
	if err != nil {
		return err
	}
	lists, err := pki.ParseCRLs(data)
	if err != nil {
		return err
	}
	if len(lists) != 1 {
		return fmt.Errorf("%d revocation lists, expected one", len(lists))
	}
	cert, err := g.Certificate()
	if err != nil {
		return err
	}
	if err := pki.CheckCRL(lists[0], cert, 1); err != nil {
		return err
	}
	if !lists[0].Number.IsUint64() {
		return errors.New("the revocation list's number is out of range")
	}
	g.CRL, g.CRLNumber = lists[0].Raw, lists[0].Number.Uint64()
	for _, e := range lists[0].RevokedCertificateEntries {
		g.Revoked = append(g.Revoked, pki.SerialText(e.SerialNumber))
	}
	slices.Sort(g.Revoked)
	return nil
}

// readRegular reads a regular file of at most limit bytes. A symbolic link is
// refused, and a pipe is not waited for.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, errors.New("it is a symbolic link, not a regular file")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it is larger than %d bytes", limit)
	}
	return data, nil
}

// writeNew makes a file that must not exist, complete and on disk, or not at
// all.
func writeNew(path string, data []byte, mode os.FileMode) error {
	temp, err := writeBeside(path, data, mode)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp) }() // gone already after the rename
	// A link, unlike a rename, never replaces what is there.
	if err := os.Link(temp, path); err != nil {
		if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ENOTSUP) {
			return err
		}
		// This file system has no hard links.
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
		if err := os.Rename(temp, path); err != nil {
			return err
		}
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	if back, err := readRegular(path, int64(len(data))); err != nil {
		return err
	} else if !bytes.Equal(back, data) {
		return fmt.Errorf("%s does not hold what was written to it", path)
	}
	return nil
}

// replaceFile puts a file in place of another by one rename, on disk.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	temp, err := writeBeside(path, data, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(filepath.Dir(path))
}

// writeBeside writes a new file in the directory of path, complete and on disk,
// and gives its name. Where that fails it leaves nothing.
func writeBeside(path string, data []byte, mode os.FileMode) (temp string, err error) {
	suffix := make([]byte, 8)
	rand.Read(suffix)
	temp = filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new-"+hex.EncodeToString(suffix))
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	defer f.Close()
	if err = f.Chmod(mode); err != nil {
		return "", err
	}
	if _, err = f.Write(data); err != nil {
		return "", err
	}
	return temp, f.Sync()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Export writes the certificates that a consumer outside the fleet needs to
// trust an authority, as PEM: for pki.ConsumerLibvirt its issuing CAs, for
// pki.ConsumerQEMU their parents, too.
func Export(a pki.Authority, c pki.Consumer) ([]byte, error) {
	b, err := a.Bundle(c)
	if err != nil {
		return nil, err
	}
	if len(b.Certs) == 0 {
		return nil, fmt.Errorf("authority %s: %w", a.Name, ErrNotInitialised)
	}
	return b.Render(), nil
}
