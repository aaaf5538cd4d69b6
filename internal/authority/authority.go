// Package authority has certificates signed. It holds the local CA: its public
// files, its key encrypted with a passphrase, and how a passphrase is found
// from a reference; and the ways to CAs that other people run: a program, a
// folder that is carried to another machine, step-ca, Vault and OpenBao. What a
// local CA signs is recorded in the ledger before it is signed, what others
// sign is checked and recorded when it comes back.
package authority

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/virtrust/virtrust/internal/pki"
)

var (
	// ErrPending means that a request was taken and will be signed later, by
	// people or a queue. The key waits on its host.
	ErrPending = errors.New("the authority has not signed yet")
	// ErrNotInitialised means that an authority has no files.
	ErrNotInitialised = errors.New("the authority is not initialised; run virtrust ca init")
	// ErrNotImported means that of an external authority no certificate is here.
	ErrNotImported = errors.New("its certificate is not here; run virtrust ca import")
	// ErrExists means that an authority, or part of one, is already there.
	ErrExists = errors.New("the authority already exists")
	// ErrHalfMade means that an init was interrupted and left some files.
	ErrHalfMade = errors.New("the authority is half made")
	// ErrWaiting means that a generation of a local authority has a key and a
	// request, and that its certificate was not brought in yet.
	ErrWaiting = errors.New("it waits for its certificate, which virtrust ca import brings in")
	// ErrLocked means that the authority's key is not open: Unlock was not
	// called, or Close was.
	ErrLocked = errors.New("the authority's key is not open")
	// ErrPassphrase means that a passphrase does not open a key file.
	ErrPassphrase = errors.New("the passphrase does not open it")
)

// A Request asks for one leaf certificate.
type Request struct {
	Run     string // id of an open run in the ledger
	Host    string // the host's name in the inventory
	CSR     *pki.CSR
	Profile pki.Profile
}

// An Authority signs leaf certificates. Sign gives the leaf, followed by the
// certificates between it and the CA that consumers have in their CA file; a
// self-signed issuing CA is not repeated. It may answer ErrPending.
type Authority interface {
	Name() string
	Sign(ctx context.Context, r Request) ([]*x509.Certificate, error)
}

var (
	_ Authority = (*Local)(nil)
	_ Authority = (*External)(nil)
)
