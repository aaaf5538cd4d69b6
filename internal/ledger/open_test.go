package ledger

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOpenCreatesPrivately(t *testing.T) {
	f := newFleet(t)
	for path, want := range map[string]os.FileMode{f.path: 0o600, filepath.Dir(f.path): 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
	if len(f.ID()) != 32 {
		t.Errorf("id %q", f.ID())
	}
	if again := open(t, f.path, Create); again.ID() != f.ID() {
		t.Errorf("opened again it has id %s, had %s", again.ID(), f.ID())
	}
	if other := newFleet(t); other.ID() == f.ID() {
		t.Error("two ledgers have one id")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other.db")
	db, err := sql.Open("sqlite", "file:"+other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE t (a)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	text := filepath.Join(dir, "text.db")
	empty := filepath.Join(dir, "empty.db")
	os.WriteFile(text, []byte(strings.Repeat("not a database ", 100)), 0o600)
	os.WriteFile(empty, nil, 0o600)
	newer := filepath.Join(dir, "newer.db")
	l := open(t, newer, Create)
	if _, err := l.db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		mode       Mode
		is         error
		text       string
	}{
		{"missing", filepath.Join(dir, "none.db"), Existing, ErrMissing, ""},
		{"missing, read", filepath.Join(dir, "none.db"), ReadOnly, ErrMissing, ""},
		{"empty", empty, Existing, ErrMissing, "ca init"},
		{"empty, read", empty, ReadOnly, ErrMissing, "ca init"},
		{"another database", other, Create, nil, "not a ledger"},
		{"text", text, Create, nil, "not a database"},
		{"directory", dir, Create, nil, "regular"},
		{"newer", newer, Existing, ErrNewer, "version 99"},
		{"newer, create", newer, Create, ErrNewer, "version 99"},
		{"newer, read", newer, ReadOnly, ErrNewer, "version 99"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := Open(t.Context(), c.path, c.mode)
			if err == nil {
				l.Close()
				t.Fatal("opened")
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("error %q", err)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "none.db")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a ledger was made where none may be")
	}
	if l, err := Open(t.Context(), empty, Create); err != nil {
		t.Errorf("an interrupted creation is not finished: %v", err)
	} else {
		l.Close()
	}
}

func TestReadOnly(t *testing.T) {
	f := newFleet(t)
	before, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	// A copy of the one file, in a directory and with a name that need care.
	path := filepath.Join(t.TempDir(), "a copy?mode=rwc#1%41.db")
	if err := os.WriteFile(path, before, 0o400); err != nil {
		t.Fatal(err)
	}
	l := open(t, path, ReadOnly)
	if l.ID() != f.ID() {
		t.Error("the copy has another id")
	}
	if all, err := l.Generations(t.Context(), ""); err != nil || len(all) != 1 {
		t.Errorf("generations of the copy: %v, %v", all, err)
	}
	if _, err := l.StartRun(t.Context(), Run{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("starting a run: %v", err)
	}
	if _, err := l.db.Exec("DELETE FROM run"); err == nil {
		t.Error("the database itself can be changed")
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("reading left files: %v", entries)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("reading changed the file")
	}
}

func TestOpenTakesAccessAway(t *testing.T) {
	f := newFleet(t)
	if err := os.Chmod(f.path, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, f.path, Existing)
	if info, _ := os.Stat(f.path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %04o", info.Mode().Perm())
	}
}

// A shipped migration must not change: ledgers that have it would differ.
func TestShippedMigrationsArePinned(t *testing.T) {
	pinned := []string{
		"cb7230e70973110ccff08d1898c56e008e9557245e3506ffc10896ab1d6e8eb5",
		"5911d1eefbdb5ffc22fcfd881910cc898ddaa794761163fee4019e338f43672c",
	}
	all, err := shippedMigrations()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(pinned) {
		t.Fatalf("%d migrations, %d pinned: add the digest of the new one", len(all), len(pinned))
	}
	for i, m := range all {
		if got := digest([]byte(m.sql)); got != pinned[i] {
			t.Errorf("migration %d has digest %s, pinned is %s", m.version, got, pinned[i])
		}
	}
}

func TestMigrateFromVersion1(t *testing.T) {
	f := newFleet(t)
	_, leaf := f.issue(t)
	all, err := shippedMigrations()
	if err != nil {
		t.Fatal(err)
	}
	v1 := all[:1]
	path := filepath.Join(t.TempDir(), "old.db")
	os.WriteFile(path, nil, 0o600)
	db, err := sql.Open("sqlite", dsn(path, Existing))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := t.Context()
	if err := migrate(ctx, db, v1, true, time.Now()); err != nil {
		t.Fatal(err)
	}
	var id string
	if err := db.QueryRow("SELECT id FROM ledger").Scan(&id); err != nil {
		t.Fatal(err)
	}
	next := append(v1[:1:1], migration{version: 2, sql: "ALTER TABLE run ADD COLUMN note TEXT NOT NULL DEFAULT ''; UPDATE ledger SET created = 'x'"})
	broken := append(v1[:1:1], migration{version: 2, sql: "ALTER TABLE run ADD COLUMN note TEXT; INSERT INTO nowhere VALUES (1)"})
	if err := migrate(ctx, db, broken, false, time.Now()); err == nil || !strings.Contains(err.Error(), "migration 2") {
		t.Fatalf("a broken migration: %v", err)
	}
	version := func() (v int) {
		if _, v, err = header(ctx, db); err != nil {
			t.Fatal(err)
		}
		return v
	}
	if version() != 1 {
		t.Fatalf("a broken migration left version %d", version())
	}
	if _, err := db.Exec("SELECT note FROM run"); err == nil {
		t.Error("a broken migration left a column")
	}
	for range 2 {
		if err := migrate(ctx, db, next, false, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	var same string
	if err := db.QueryRow("SELECT id FROM ledger").Scan(&same); err != nil || same != id || version() != 2 {
		t.Errorf("after the migration: id %s was %s, version %d, %v", same, id, version(), err)
	}
	// The current schema, opened by this program from version 1 with content.
	again := open(t, f.path, Existing)
	if i, err := again.IssuanceByLeaf(ctx, leaf); err != nil || i.Host != "kvm1" {
		t.Errorf("issuance %v, %v", i, err)
	}
}

func TestOpenHonoursContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if l, err := Open(ctx, filepath.Join(t.TempDir(), "l.db"), Create); !errors.Is(err, context.Canceled) {
		if err == nil {
			l.Close()
		}
		t.Errorf("error %v", err)
	}
}
