package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// querier is what a database and a transaction have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// write runs fn in one transaction that holds the write lock from its start.
func (l *Ledger) write(ctx context.Context, what string, fn func(tx *sql.Tx, now time.Time) error) error {
	wrap := func(err error) error { return fmt.Errorf("ledger %s: %s: %w", l.path, what, err) }
	if l.mode == ReadOnly {
		return wrap(ErrReadOnly)
	}
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return wrap(err)
	}
	defer conn.Close()
	tx, err := l.begin(ctx, conn)
	if err != nil {
		return wrap(err)
	}
	defer tx.Rollback()
	if err := fn(tx, l.now().UTC()); err != nil {
		var e *sqlite.Error
		if errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY {
			err = fmt.Errorf("the run or the generation that it names is %w: %w", ErrNotFound, err)
		}
		return wrap(err)
	}
	if err := tx.Commit(); err != nil {
		return wrap(err)
	}
	if time.Since(time.UnixMilli(l.contended.Load())) < time.Second {
		// Another process writes, too: leave it a turn.
		time.Sleep(longestPause)
	}
	return nil
}

// longestPause is between two tries to take the write lock.
const longestPause = 2 * time.Millisecond

// begin takes the write lock. SQLite's own wait sleeps up to 100 ms between its
// tries, so that a process that writes without a pause would starve all others;
// this one tries again within longestPause, and who met another process leaves
// gaps of that length.
func (l *Ledger) begin(ctx context.Context, conn *sql.Conn) (*sql.Tx, error) {
	patience := func(d time.Duration) error {
		_, err := conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf("PRAGMA busy_timeout = %d", d.Milliseconds()))
		return err
	}
	if err := patience(0); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(busyTimeout)
	for {
		tx, err := conn.BeginTx(ctx, nil)
		if isBusy(err) && ctx.Err() == nil && time.Now().Before(deadline) {
			l.contended.Store(time.Now().UnixMilli())
			time.Sleep(longestPause/10 + rand.N(longestPause*9/10)) //nolint:gosec // G404: spreads retries, protects nothing
			continue
		}
		if isBusy(err) && ctx.Err() == nil {
			err = fmt.Errorf("other processes kept it locked for %s: %w", busyTimeout, err)
		}
		if restored := patience(busyTimeout); restored != nil && err == nil {
			tx.Rollback()
			return nil, restored
		}
		return tx, err
	}
}

// IsBusy reports whether an error means that another process, which may be
// stopped in the middle of a transaction, holds the ledger.
func IsBusy(err error) bool { return isBusy(err) }

func isBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// query runs one SELECT and hands each row to scan.
func query(ctx context.Context, q querier, scan func(*sql.Rows) error, text string, args ...any) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
