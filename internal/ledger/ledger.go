package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the database driver
)

// Mode says what Open may do.
type Mode int

const (
	// ReadOnly reads an existing ledger and changes nothing in it.
	ReadOnly Mode = iota
	// Existing reads and writes an existing ledger.
	Existing
	// Create is Existing, and makes the ledger if it is missing. Only ca init
	// uses it.
	Create
)

var (
	// ErrMissing means that there is no ledger at the path.
	ErrMissing = errors.New("there is no ledger")
	// ErrForeign means that the ledger does not belong to an authority: it is
	// another fleet's, or older than the authority's files, or newer.
	ErrForeign = errors.New("the ledger does not belong to the authority")
	// ErrReadOnly means that a ledger opened with ReadOnly was to be changed.
	ErrReadOnly = errors.New("the ledger is open for reading only")
	// ErrNotFound means that the ledger has no such record.
	ErrNotFound = errors.New("not in the ledger")
	// ErrState means that a record's state does not allow the change.
	ErrState = errors.New("the record's state does not allow it")
)

// busyTimeout is how long one process waits for another's transaction.
const busyTimeout = 10 * time.Second

// A Ledger is an open ledger. Its methods may be called at the same time, and
// several processes may have the same ledger open.
type Ledger struct {
	db   *sql.DB
	path string
	id   string
	mode Mode
	now  func() time.Time

	contended atomic.Int64 // when another process was last met writing, Unix milliseconds
}

// An Option changes how a ledger is opened.
type Option func(*Ledger)

// WithClock replaces the clock that times of records are taken from.
func WithClock(now func() time.Time) Option { return func(l *Ledger) { l.now = now } }

// Open opens the ledger at path. A missing file is ErrMissing unless mode is
// Create, which makes it with mode 0600, and its directory with mode 0700. An
// older schema is brought up to date unless mode is ReadOnly, a newer one is
// ErrNewer. Opening for writing also ends runs whose process is gone and makes
// orphans of their intents; see EndRun.
func Open(ctx context.Context, path string, mode Mode, options ...Option) (*Ledger, error) {
	l := &Ledger{mode: mode, now: time.Now}
	for _, o := range options {
		o(l)
	}
	var err error
	if l.path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("ledger %s: %w", path, err)
	}
	if err := l.open(ctx); err != nil {
		if l.db != nil {
			l.db.Close()
		}
		return nil, fmt.Errorf("ledger %s: %w", l.path, err)
	}
	return l, nil
}

func (l *Ledger) open(ctx context.Context) error {
	if err := l.prepareFile(); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", dsn(l.path, l.mode))
	if err != nil {
		return err
	}
	// One connection: goroutines queue here instead of meeting SQLITE_BUSY.
	db.SetMaxOpenConns(1)
	l.db = db
	all, err := shippedMigrations()
	if err != nil {
		return err
	}
	if l.mode == ReadOnly {
		app, version, err := header(ctx, db)
		if err == nil {
			err = judgeHeader(ctx, db, app, version, len(all))
		}
		if err == nil && version < len(all) {
			err = fmt.Errorf("%w: version %d, this virtrust reads version %d", ErrOlder, version, len(all))
		}
		if err != nil {
			return missingIfEmpty(err)
		}
	} else if err := migrate(ctx, db, all, l.mode == Create, l.now()); err != nil {
		return missingIfEmpty(err)
	}
	if err := db.QueryRowContext(ctx, "SELECT id FROM ledger").Scan(&l.id); err != nil {
		return fmt.Errorf("reading its id: %w", err)
	}
	if l.mode == ReadOnly {
		return nil
	}
	return l.recoverRuns(ctx)
}

// missingIfEmpty makes an empty file count as no ledger.
func missingIfEmpty(err error) error {
	if errors.Is(err, errEmpty) {
		return fmt.Errorf("%w: %w; run virtrust ca init to make it", ErrMissing, err)
	}
	return err
}

// prepareFile checks the database file, makes it in mode Create, and takes
// access by others away where it may write.
func (l *Ledger) prepareFile() error {
	info, err := os.Stat(l.path)
	if errors.Is(err, fs.ErrNotExist) && l.mode == Create {
		dir := filepath.Dir(l.path)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer d.Close()
		if err := d.Sync(); err != nil {
			return err
		}
		info, err = os.Stat(l.path)
		if err != nil {
			return err
		}
	} else if errors.Is(err, fs.ErrNotExist) {
		return ErrMissing
	} else if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	if l.mode != ReadOnly && info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(l.path, 0o600); err != nil {
			return fmt.Errorf("others may read or write it: %w", err)
		}
	}
	return nil
}

// dsn names the database with the settings of each connection. A ReadOnly
// ledger is opened read-write with query_only, because only so SQLite can undo
// what a killed process left; where the file cannot be written SQLite opens it
// read-only by itself.
func dsn(path string, mode Mode) string {
	q := url.Values{}
	q.Set("mode", "rw")
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))
	q.Add("_pragma", "foreign_keys(1)")
	q.Add("_pragma", "recursive_triggers(1)")
	q.Add("_pragma", "trusted_schema(0)")
	if mode == ReadOnly {
		q.Add("_pragma", "query_only(1)")
	} else {
		q.Add("_pragma", "journal_mode(DELETE)")
		q.Add("_pragma", "synchronous(EXTRA)")
		q.Set("_txlock", "immediate")
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// Close closes the ledger.
func (l *Ledger) Close() error { return l.db.Close() }

// ID is the random name of the ledger, 32 hex digits. A copy has the same.
func (l *Ledger) ID() string { return l.id }

// Path is the absolute path of the database.
func (l *Ledger) Path() string { return l.path }

// String names the ledger in messages.
func (l *Ledger) String() string { return "ledger " + l.path }
