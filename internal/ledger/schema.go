package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"time"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// applicationID marks a SQLite file as a ledger: "vtru" in the file's header.
const applicationID = 0x76747275

// ErrNewer means that the ledger was written by a newer version of virtrust.
var ErrNewer = errors.New("the ledger has a newer schema than this virtrust knows")

// ErrOlder means that a ledger opened with ReadOnly has an older schema. Opening
// it for writing brings it up to date.
var ErrOlder = errors.New("the ledger has an older schema")

// A migration takes a ledger from schema version-1 to version. A shipped one is
// never edited; a change is a further migration.
type migration struct {
	version int
	sql     string
}

// shippedMigrations reads the embedded migrations in their order and checks that
// they are numbered from 1 without a gap.
func shippedMigrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var all []migration
	for i, name := range names {
		number, err := strconv.Atoi(path.Base(name)[:4])
		if err != nil || number != i+1 {
			return nil, fmt.Errorf("embedded migration %s is not number %d", name, i+1)
		}
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, migration{version: number, sql: string(text)})
	}
	return all, nil
}

// header reads the two marks of the database: application id and schema version.
func header(ctx context.Context, q querier) (app, version int, err error) {
	if err := q.QueryRowContext(ctx, "PRAGMA application_id").Scan(&app); err != nil {
		return 0, 0, err
	}
	err = q.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	return app, version, err
}

// migrate brings the database to the last of the migrations, each in one
// transaction. With mayCreate an empty database becomes a ledger.
func migrate(ctx context.Context, db *sql.DB, all []migration, mayCreate bool, now time.Time) error {
	for {
		done, err := migrateStep(ctx, db, all, mayCreate, now)
		if err != nil || done {
			return err
		}
	}
}

// migrateStep looks under the write lock, so that two processes that open an old
// ledger at once do not both migrate it.
func migrateStep(ctx context.Context, db *sql.DB, all []migration, mayCreate bool, now time.Time) (done bool, err error) {
	// A current ledger is opened without taking the write lock.
	if app, version, err := header(ctx, db); err != nil {
		return false, err
	} else if app == applicationID && version == len(all) {
		return true, nil
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	app, version, err := header(ctx, tx)
	if err != nil {
		return false, err
	}
	if err := judgeHeader(ctx, tx, app, version, len(all)); err != nil {
		if !errors.Is(err, errEmpty) || !mayCreate {
			return false, err
		}
		if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
			return false, err
		}
	} else if version == len(all) {
		return true, nil
	}
	next := all[version]
	if _, err := tx.ExecContext(ctx, next.sql); err != nil {
		return false, fmt.Errorf("schema migration %d: %w", next.version, err)
	}
	if version == 0 {
		id := make([]byte, 16)
		rand.Read(id)
		if _, err := tx.ExecContext(ctx, "INSERT INTO ledger (only, id, created) VALUES (1, ?, ?)", hex.EncodeToString(id), stamp(now)); err != nil {
			return false, err
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", next.version)); err != nil {
		return false, err
	}
	return false, tx.Commit()
}

// errEmpty is a database without any table: its creation was interrupted.
var errEmpty = errors.New("the file is empty: its creation was interrupted")

// judgeHeader says why a database is not a ledger that this program can use.
func judgeHeader(ctx context.Context, q querier, app, version, known int) error {
	if app != applicationID {
		var tables int
		if err := q.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
			return err
		}
		if app == 0 && version == 0 && tables == 0 {
			return errEmpty
		}
		return errors.New("the file is a database, but not a ledger of virtrust")
	}
	if version > known {
		return fmt.Errorf("%w: version %d, known up to %d; use the newer virtrust", ErrNewer, version, known)
	}
	if version < 1 {
		return errors.New("the ledger's schema version is missing; restore the file from a copy")
	}
	return nil
}
