package ledger

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What an earlier version wrote is there after the migration, and can be added
// to. Each version is written with its own columns.
func TestMigrateFromEveryVersion(t *testing.T) {
	all, err := shippedMigrations()
	if err != nil {
		t.Fatal(err)
	}
	ctx, now := t.Context(), stamp(time.Now())
	for version := 1; version < len(all); version++ {
		path := filepath.Join(t.TempDir(), "old.db")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("sqlite", dsn(path, Existing))
		if err != nil {
			t.Fatal(err)
		}
		if err := migrate(ctx, db, all[:version], true, time.Now()); err != nil {
			t.Fatal(err)
		}
		_, ca := newCA(t, 1)
		for _, q := range []struct {
			sql  string
			args []any
		}{
			{"INSERT INTO run (id, command, operator, version, plan_digest, process, started, ended, result) VALUES ('r1', 'apply', 'ann', '0', '', '{}', ?, ?, 'complete')", []any{now, now}},
			{"INSERT INTO generation VALUES ('libvirt', 1, 'aa', 'bb', ?, ?, ?, 'issuing', ?)", []any{ca.Raw, now, now, now}},
			{"INSERT INTO issuance (authority, generation, serial, host, certificate, profile, spki_sha256, state, cert, leaf_sha256, run, begun, changed) VALUES ('libvirt', 1, '0a', 'kvm1', 'qemu', '{\"lifetime\":\"1h\"}', 'cc', 'installed', ?, 'dd', 'r1', ?, ?)", []any{ca.Raw, now, now}},
			{"INSERT INTO revocation VALUES ('libvirt', 1, '0b', 'stolen', ?, 'r1')", []any{now}},
			{"INSERT INTO failure (host, certificate, class, text, run, at) VALUES ('kvm1', 'qemu', 'refused', 'no', 'r1', ?)", []any{now}},
			{"INSERT INTO proof (host, certificate, leaf_sha256, bundle_digest, peers, loaded, detail, run, at) VALUES ('kvm1', 'qemu', 'dd', '', '[]', '[]', '', 'r1', ?)", []any{now}},
			{"INSERT INTO crl (authority, generation, number, at) VALUES ('libvirt', 1, 4, ?)", []any{now}},
		} {
			if _, err := db.Exec(q.sql, q.args...); err != nil {
				t.Fatalf("version %d: %s: %v", version, q.sql, err)
			}
		}
		db.Close()
		if _, err := Open(ctx, path, ReadOnly); !errors.Is(err, ErrOlder) {
			t.Errorf("version %d, read only: %v", version, err)
		}
		l := open(t, path, Existing)
		run := startRun(t, l)
		if f, err := l.Failures(ctx); err != nil || len(f) != 1 || f[0].Wish != "" || f[0].Attempts != 1 {
			t.Errorf("version %d: failures %+v, %v", version, f, err)
		}
		if err := l.RecordFailure(ctx, Failure{Host: "kvm1", Certificate: "qemu", Class: "refused", Wish: "w", Run: run}); err != nil {
			t.Error(err)
		}
		if f, err := l.Failures(ctx); err != nil || len(f) != 1 || f[0].Wish != "w" || f[0].Attempts != 1 {
			t.Errorf("version %d: failures of another wish %+v, %v", version, f, err)
		}
		if n, err := l.BeginCRL(ctx, run, "libvirt", 1); err != nil || n != 5 {
			t.Errorf("version %d: CRL number %d, %v", version, n, err)
		}
		if i, err := l.IssuanceBySerial(ctx, "libvirt", "0a"); err != nil || i.Host != "kvm1" || i.State != StateInstalled {
			t.Errorf("version %d: issuance %+v, %v", version, i, err)
		}
		if r, err := l.Revocations(ctx, "libvirt", 1); err != nil || len(r) != 1 || r[0].Serial != "0b" {
			t.Errorf("version %d: revocations %v, %v", version, r, err)
		}
		if p, err := l.Proofs(ctx); err != nil || len(p) != 1 {
			t.Errorf("version %d: proofs %v, %v", version, p, err)
		}
		if err := l.RecordLook(ctx, "kvm1", "x"); err != nil {
			t.Error(err)
		}
	}
}

func TestForget(t *testing.T) {
	f, ctx := newFleet(t), t.Context()
	everyone := func(string) bool { return true }
	id, leaf := f.issue(t)
	if err := f.MarkInstalled(ctx, f.run, "kvm1", "libvirt-server", leaf); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.RecordLook(ctx, "kvm1", "t"); err != nil {
			t.Fatal(err)
		}
	}
	if k, err := f.Looks(ctx); err != nil || len(k) != 1 || k["kvm1"].Trust != "t" || k["kvm1"].At.IsZero() {
		t.Errorf("looks %v, %v", k, err)
	}
	got, err := f.Leaves(ctx, everyone, false, time.Now())
	if err != nil || len(got) != 1 || got[0].LeafSHA256 != leaf || got[0].State != StateInstalled {
		t.Fatalf("leaves %+v, %v", got, err)
	}
	if got, _ := f.Leaves(ctx, everyone, true, got[0].NotAfter); len(got) != 0 {
		t.Errorf("a leaf that has ended: %+v", got)
	}
	if got, _ := f.Leaves(ctx, func(h string) bool { return h != "kvm1" }, true, time.Now()); len(got) != 0 {
		t.Errorf("a host that was not asked for: %+v", got)
	}
	if n, err := f.Forget(ctx, f.run, "kvm1"); err != nil || n != 1 {
		t.Fatalf("forgotten %d leaves, %v", n, err)
	}
	if s := f.state(t, id); s != StateSuperseded {
		t.Errorf("the leaf is %s", s)
	}
	if k, _ := f.Looks(ctx); len(k) != 0 {
		t.Errorf("looks after forgetting: %v", k)
	}
	if got, _ := f.Leaves(ctx, everyone, false, time.Now()); len(got) != 0 {
		t.Errorf("in use after forgetting: %+v", got)
	}
	if got, _ := f.Leaves(ctx, everyone, true, time.Now()); len(got) != 1 {
		t.Errorf("what may exist somewhere: %+v", got)
	}
	if err := f.Verify(ctx); err != nil {
		t.Error(err)
	}
	if e, err := f.Events(ctx, 0, 1000); err != nil || len(e) == 0 || e[len(e)-1].Action != "host.forgotten" {
		t.Errorf("audit: %+v, %v", e, err)
	}
}
