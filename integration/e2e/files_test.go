package e2e

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/virtrust/virtrust/integration/lab"
	"github.com/virtrust/virtrust/integration/operator"
)

// Every mistake in the files is told at once, with its line, and no host is
// contacted before all are mended.
func TestMistakesInFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	address := lab.ControllerAddresses.Management4.String()
	l, err := s.Lab.Listen(t.Context(), "tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var contacts atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			contacts.Add(1)
			c.Close()
		}
	}()
	ssh := fmt.Sprintf("ssh {\n  port = %d\n  known_hosts = %q\n  identity = [%q]\n}\n", l.Addr().(*net.TCPAddr).Port, s.Lab.KnownHosts(), s.Lab.IdentityFile())
	s.Write(t, "inventory.hcl", ssh+`cluster "rack1" {
  policy = policy.standard
}
host "kvm1" {
  address = "`+address+`"
  cluster = cluster.rack1
}
host "kvm2" {
  address = "`+address+`"
  cluster = cluster.rack1
}
host "Big_Name" {
  address = "big.example.test"
  cluster = cluster.rack1
}
host "kvm3" {
  adress  = "kvm3.example.test"
  cluster = cluster.rack9
}
`)
	s.Write(t, "policy.hcl", policyHCL+`
policy "other" {
  template = "libvirt"
  certificate "libvirt-server" {
    authority    = authority.nobody
    lifetime     = "10d"
    renew_before = "20d"
  }
  settings "/etc/libvirt/libvirtd.conf" {
    max_client = 5
  }
}
`)
	r := s.Run(t, 1, "validate")
	operator.Contains(t, r.Stderr,
		"inventory.hcl:14:",            // the address of kvm1 once more
		"inventory.hcl:17:",            // the name
		"inventory.hcl:22:", "address", // adress
		"inventory.hcl:23:", "rack9",
		"policy.hcl:", "nobody", "renew_before", "max_clients")
	if n := strings.Count(r.Stderr, "Error: "); n < 7 {
		t.Errorf("%d errors, want at least 7:\n%s", n, r.Stderr)
	}
	for _, args := range [][]string{{"plan"}, {"apply", "--yes"}, {"verify"}, {"status"}, {"ca", "init"}} {
		again := s.Run(t, 1, args...)
		if a, b := strings.Count(again.Stderr, "Error: "), strings.Count(r.Stderr, "Error: "); a != b || again.Stdout != "" {
			t.Errorf("%v tells %d errors, validate %d; result %q", args, a, b, again.Stdout)
		}
	}
	if n := contacts.Load(); n != 0 {
		t.Errorf("%d connections before the mistakes were mended", n)
	}

	s.Write(t, "policy.hcl", policyHCL)
	s.Write(t, "inventory.hcl", ssh+"cluster \"rack1\" {\n  policy = policy.standard\n}\nhost \"kvm1\" {\n  address = \""+address+"\"\n  cluster = cluster.rack1\n}\n")
	s.Run(t, 0, "ca", "init")
	s.Run(t, 3, "plan")
	if contacts.Load() == 0 {
		t.Error("a mended configuration contacts nobody: the listener shows nothing")
	}
}
