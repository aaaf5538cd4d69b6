package report

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestPeers(t *testing.T) {
	rows := []PeerRow{
		{Cluster: "rack1", From: "kvm1", To: "kvm2", Possible: true, TLS: true, Policy: "required", URI: "qemu+tls://kvm2.example.com/system", MigrateURI: "tcp://10.9.0.2", TLSDestination: "kvm2-mig.example.com"},
		{Cluster: "rack1", From: "kvm2", To: "kvm1", Possible: true, Policy: "available", URI: "qemu+tls://kvm1.example.com/system", MigrateURI: "tcp://[fd00::1]", Why: []string{"kvm2: there is no /etc/pki/qemu/client-cert.pem"}},
		{Cluster: "rack2", From: "kvm3", To: "kvm4", Policy: "required", URI: "qemu+tls://kvm4.example.com/system", Why: []string{"kvm4 serves no certificate on port 16514: \x1b[2Jrefused"}},
	}
	golden(t, "peers", func(w io.Writer, o Options) error { return Peers(w, rows, o) })
}

func TestMigrationPage(t *testing.T) {
	moved := MigrationRow{Guest: "db", From: "kvm1", To: "kvm2", TLS: true, Result: MigrationMoved, RunsOn: []string{"kvm2 (running)"}, Seconds: 3.24,
		Statistics: map[string]string{"Data processed": "123.456 MiB", "Total downtime": "34           ms"}}
	stayed := MigrationRow{Guest: "db", From: "kvm1", To: "kvm2", TLS: true, Result: MigrationStayed, Stopped: "limit", Text: "operation aborted: \x1b[31mjob", Hint: "try --auto-converge"}
	both := MigrationRow{Guest: "db", From: "kvm1", To: "kvm2", Result: MigrationUnknown, RunsOn: []string{"kvm1 (paused)", "kvm2 (running)"}}
	for name, r := range map[string]MigrationRow{"migration-moved": moved, "migration-stayed": stayed, "migration-unknown": both} {
		golden(t, name, func(w io.Writer, o Options) error { return Migration(w, r, o) })
	}
}

func TestProofs(t *testing.T) {
	rows := []ProofRow{
		{From: "kvm1", To: "kvm2", OK: true, Machine: "pc-i440fx-7.2", SecondsTLS: 1.5, SecondsPlain: 1.2, Legs: []Leg{{From: "kvm1", To: "kvm2", Creds: "objlibvirt_migrate_tls0"}, {From: "kvm2", To: "kvm1", Creds: "objlibvirt_migrate_tls0"}}},
		{From: "kvm2", To: "kvm3", OK: true, Machine: "pc-i440fx-7.2", SecondsTLS: 1.5, PlainRefused: true},
		{From: "kvm3", To: "kvm1", Text: "no encrypted migration from kvm3 to kvm1: kvm1: \u202ethere is no /etc/pki/qemu/server-cert.pem", Hint: "virtrust peers shows all pairs"},
	}
	golden(t, "proofs", func(w io.Writer, o Options) error { return Proofs(w, rows, o) })
	golden(t, "proofs-none", func(w io.Writer, o Options) error { return Proofs(w, nil, o) })
}

func TestMigrationProgress(t *testing.T) {
	if got := MigrationProgress("db", map[string]string{"Job type": "None"}, time.Second); got != "" {
		t.Error(got)
	}
	got := MigrationProgress("d\x1bb", map[string]string{"Data processed": "1.000 GiB", "Dirty rate": "7410         pages/s", "Iteration": "9\x1b"}, 12*time.Second)
	if got != `d\x1bb, 12 s: data processed 1.000 GiB, dirty rate 7410 pages/s, iteration 9\x1b` {
		t.Error(got)
	}
	mustBeSafe(t, strings.TrimSpace(got))
}
