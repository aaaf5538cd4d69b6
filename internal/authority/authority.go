// Package authority signs certificates. It holds the local CA: its public
// files, its key encrypted with a passphrase, and how a passphrase is found
// from a reference. Each signature is recorded in the ledger before it is made.
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
	// ErrExists means that an authority, or part of one, is already there.
	ErrExists = errors.New("the authority already exists")
	// ErrHalfMade means that an init was interrupted and left some files.
	ErrHalfMade = errors.New("the authority is half made")
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

var _ Authority = (*Local)(nil)
