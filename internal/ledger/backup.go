package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup copies the ledger, as it is at one moment, to a new file with mode
// 0600; others may go on using the ledger. What is there is never overwritten
// (fs.ErrExist). The copy is checked and on disk when Backup returns; of one
// that fails nothing is left.
func (l *Ledger) Backup(ctx context.Context, path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("ledger %s: copying it to %s: %w", l.path, path, err)
		}
	}()
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	// SQLite writes into an empty file that is there: so its mode is ours.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	} else if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	defer f.Close()
	if err := l.vacuum(ctx, path); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return err
	}
	back, err := Open(ctx, path, ReadOnly, WithClock(l.now))
	if err != nil {
		return err
	}
	defer func() { _ = back.Close() }()
	return back.Verify(ctx)
}

// vacuum writes the copy. SQLite counts it as writing, also where the ledger
// itself is only read.
func (l *Ledger) vacuum(ctx context.Context, path string) error {
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if l.mode == ReadOnly {
		if _, err := conn.ExecContext(ctx, "PRAGMA query_only = 0"); err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(ctx, "VACUUM INTO ?", path)
	if l.mode == ReadOnly {
		_, again := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA query_only = 1")
		err = errors.Join(err, again)
	}
	return err
}
