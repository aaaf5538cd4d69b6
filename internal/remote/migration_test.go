package remote

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
)

func TestMigrationState(t *testing.T) {
	frame := func(kind, data string) facts.Frame { return facts.Frame{Kind: kind, Data: []byte(data)} }
	m := Migration{ID: "x"}
	s, err := m.state("kvm1", []facts.Frame{
		frame("done", "1"), frame("took", "250"), frame("why", "limit\n"), frame("out", "error: operation aborted: job 'migration out' \x1bcanceled\n"),
		frame("parameters", `{"return":{"tls-creds":"objlibvirt_migrate_tls0","tls-authz":"","tls-hostname":"kvm2.example.test"},"id":"libvirt-1"}`),
	})
	if err != nil || !s.Done || s.Exit != 1 || s.Took != 2500*time.Millisecond || s.Stopped != "limit" || !s.Watched || s.Creds != "objlibvirt_migrate_tls0" || s.Hostname != "kvm2.example.test" {
		t.Errorf("%+v, %v", s, err)
	}
	if why := s.Why(); why != `operation aborted: job 'migration out' \u001bcanceled` {
		t.Error(why)
	}
	s, err = m.state("kvm1", []facts.Frame{frame("job", "Job type:         Unbounded   \nData processed:   1.5 MiB\nbroken\n"), frame("out", "")})
	if err != nil || s.Done || s.Job["Data processed"] != "1.5 MiB" || len(s.Job) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	for _, frames := range [][]facts.Frame{nil, {frame("gone", "")}, {frame("dead", ""), frame("out", "")}} {
		if s, err := m.state("kvm1", frames); ClassOf(err) != ClassScript {
			t.Errorf("%v: %+v, %v", frames, s, err)
		}
	}
	if s, err := m.state("kvm1", []facts.Frame{frame("done", "zero"), frame("out", "")}); err != nil || s.Exit == 0 {
		t.Errorf("a status that is no number: %+v, %v", s, err)
	}
}

// What cannot be a name never reaches a shell.
func TestMigrationNames(t *testing.T) {
	c := &Conn{host: "kvm1"}
	for _, m := range []Migration{
		{ID: "", Guest: "g", Limit: time.Minute}, {ID: "../x", Guest: "g", Limit: time.Minute}, {ID: "a b", Guest: "g", Limit: time.Minute},
		{ID: "x", Guest: "", Limit: time.Minute}, {ID: "x", Guest: "--all", Limit: time.Minute}, {ID: "x", Guest: "g"},
	} {
		if err := m.Start(t.Context(), c); ClassOf(err) != ClassConfiguration {
			t.Errorf("%+v: %v", m, err)
		}
	}
	for _, name := range []string{"", "../../etc/x", "a\nb"} {
		if _, err := FindGuest(t.Context(), c, name, ""); ClassOf(err) != ClassConfiguration {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := (ThrowAway{Name: "x; reboot"}).Remove(t.Context(), c); ClassOf(err) != ClassConfiguration {
		t.Error(err)
	}
}

func TestMigrationScriptsParse(t *testing.T) {
	for name, script := range map[string]string{
		"job": migrationScript, "poll": pollScript, "guest": guestScript, "guard": guardScript,
		"whole": string(ThrowAway{Name: "x"}.script("00", "alive")),
	} {
		cmd := exec.Command("/bin/sh", "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}
