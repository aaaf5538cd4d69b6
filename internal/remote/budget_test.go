package remote_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"math/big"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/internal/pki"
	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/remotetest"
	"github.com/virtrust/virtrust/inventory"
	"github.com/virtrust/virtrust/plan"
	"github.com/virtrust/virtrust/tasks"
)

// budget is how many round trips a host may cost in a plan with nothing to do,
// TCP's own and the look at what is served included; behindBudget is that of a
// host through a jump host that nobody has reached yet.
const (
	budget       = 11
	behindBudget = 21
)

// realQueries are what the tasks of a host ask under the policy that is shipped.
func realQueries(t *testing.T) ([]facts.Query, []int) {
	t.Helper()
	dir := t.TempDir()
	if _, err := inventory.Init(dir, inventory.InitOptions{Hosts: []inventory.InitHost{{Name: "kvm1", Address: "kvm1.example.test"}, {Name: "kvm2", Address: "kvm2.example.test"}}}); err != nil {
		t.Fatal(err)
	}
	fleet, diags := inventory.Load(dir, inventory.Options{})
	if diags.HasErrors() {
		text := &bytes.Buffer{}
		_ = diags.Render(text, 100, false)
		t.Fatalf("the first configuration is not valid:\n%s", text)
	}
	var trust pki.Trust
	for _, a := range fleet.Authorities {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := pki.NewAuthority(time.Now(), pki.CAProfile{Organization: "Example", Name: a.Name, Number: 1}, key, big.NewInt(1<<40))
		if err != nil {
			t.Fatal(err)
		}
		trust.Authorities = append(trust.Authorities, pki.Authority{Name: a.Name, Generations: []pki.Generation{pki.NewGeneration(1, pki.PhaseIssuing, cert)}})
	}
	h := &fleet.Hosts[0]
	all, err := tasks.For(h, trust, tasks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var ports []int
	for _, l := range h.Policy.Listeners {
		ports = append(ports, l.Port)
	}
	return plan.Queries(all), ports
}

// The facts script runs for real, on this machine; only the way to it is long.
func TestPlanBudget(t *testing.T) {
	queries, ports := realQueries(t)
	if len(queries) < 20 || len(ports) == 0 {
		t.Fatalf("%d queries, ports %v: that is no whole policy", len(queries), ports)
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	run := func(_ string, ch ssh.Channel) int {
		cmd := exec.Command(sh, "-s")
		// The process has its script at once: it costs no virtual time.
		script, _ := io.ReadAll(ch)
		cmd.Stdin = bytes.NewReader(script)
		out, err := cmd.Output()
		_, _ = ch.Write(out)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		return 0
	}
	look := func(t *testing.T, d *remote.Dialer, e remote.Endpoint, budget float64) {
		start := time.Now()
		c, err := d.Connect(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		h, err := remote.Look(t.Context(), c, "kvm1", queries, time.Now, ports...)
		if err != nil {
			t.Fatal(err)
		}
		elapsed := float64(time.Since(start)) / float64(2*oneWay)
		_ = c.Close()
		t.Logf("%d queries, %d served: %.1f round trips, Trips() = %d", len(queries), len(h.Served), elapsed, c.Trips())
		for addr, s := range h.Served {
			if len(s.Chain) == 0 {
				t.Errorf("%s shows no certificate: %s", addr, s.Problem)
			}
		}
		if elapsed > budget {
			t.Errorf("a look took %.1f round trips, %.0f are the budget", elapsed, budget)
		}
	}
	t.Run("directly", func(t *testing.T) {
		inBubble(t, remotetest.Options{Exec: run}, func(t *testing.T, d *remote.Dialer, e remote.Endpoint) { look(t, d, e, budget) })
	})
	t.Run("through a jump host", func(t *testing.T) {
		behindJump(t, remotetest.Options{Exec: run}, func(t *testing.T, d *remote.Dialer, e remote.Endpoint) {
			look(t, d, e, behindBudget)
			// The jump host is there by now.
			look(t, d, e, budget)
		})
	})
}
