package ledger

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestBackup(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	_, leaf := f.issue(t)
	to := filepath.Join(t.TempDir(), "copy.db")
	// A reader may copy, too: nothing in the ledger changes.
	if err := open(t, f.path, ReadOnly).Backup(ctx, to); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(to)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	back := open(t, to, Existing)
	if i, err := back.IssuanceByLeaf(ctx, leaf); err != nil || i.State != StateSigned {
		t.Errorf("the copy has %s, %v", i.State, err)
	}
	if back.ID() != f.ID() {
		t.Error("the copy has another id")
	}
	f.issue(t)
	if all, err := back.Issuances(ctx, Filter{}); err != nil || len(all) != 1 {
		t.Errorf("the copy has %d issuances, %v", len(all), err)
	}
	before, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Backup(ctx, to); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if after, err := os.ReadFile(to); err != nil || string(after) != string(before) {
		t.Errorf("a refused copy changed the file, %v", err)
	}
	if err := f.Backup(ctx, filepath.Join(t.TempDir(), "none", "copy.db")); err == nil {
		t.Error("no directory: no error")
	}
}
