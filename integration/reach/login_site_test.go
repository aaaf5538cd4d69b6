package reach

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

const sudoPassword = "correct-horse-7"

// loginSite is the configuration of one host whose login changes from case to
// case.
type loginSite struct {
	lab  *lab.Lab
	host *lab.Host
	dir  string
	bin  string
}

const loginPolicy = `authority "libvirt" {
  organization    = "Example"
  passphrase_from = "env:VT_PASSPHRASE"
}

policy "standard" {
  template = "libvirt"
}
`

func newLoginSite(t *testing.T, l *lab.Lab, h *lab.Host, bin string) *loginSite {
	t.Helper()
	s := &loginSite{lab: l, host: h, dir: t.TempDir(), bin: bin}
	s.write(t, "policy.hcl", loginPolicy)
	s.login(t, "")
	s.run(t, 0, "ca", "init")
	return s
}

func (s *loginSite) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// login writes the inventory with further lines of the ssh block.
func (s *loginSite) login(t *testing.T, lines string) {
	t.Helper()
	s.write(t, "inventory.hcl", fmt.Sprintf(`ssh {
  known_hosts = %q
  identity    = [%q]
  user        = %q
  %s
}

host %q {
  address = %q
  policy  = policy.standard
}
`, s.lab.KnownHosts(), s.lab.IdentityFile(), s.host.Login.User(), lines, s.host.Name, s.host.FQDN))
}

// run runs virtrust, which must end with that code, and gives all it said.
func (s *loginSite) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := s.lab.Command(ctx, s.bin, append([]string{"-C", s.dir}, args...)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "VT_PASSPHRASE=correct horse battery", "VT_SUDO="+sudoPassword, "VT_WRONG=no")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("virtrust %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out.String())
	}
	return out.String()
}

// on runs a script on the host as root, past SSH; it has to end well.
func (s *loginSite) on(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	defer cancel()
	r, err := s.host.Script(ctx, script)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", s.host.Name, err, script)
	}
	return r.Stdout
}

// way is one way to be let in, and what becomes of it.
type way struct {
	name string // as docs/reach.md has it
	set  string // script that makes the host so
	undo string // and not any more
	ssh  string // further lines of the ssh block
	// fails is what doctor and plan say where the way cannot work; "" is a way
	// that has to work.
	fails string
	// says is what doctor says of a way that works, "" is nothing in particular.
	says string
}

const sshdConf = "/etc/ssh/sshd_config.d/way.conf"

// sshd is a script that starts sshd with further lines of its configuration.
func sshd(lines string) string {
	return "printf '" + lines + "\\n' >" + sshdConf + "\n" + restartSSH
}

const (
	restartSSH = "systemctl reset-failed ssh; systemctl restart ssh\n"
	plainSSH   = "rm -f " + sshdConf + "\n" + restartSSH
)

// try takes the host through a way: doctor, an apply that changes something,
// and a plan that is empty.
func (s *loginSite) try(t *testing.T, w way) {
	t.Run(w.name, func(t *testing.T) {
		t.Cleanup(func() {
			if w.undo != "" {
				s.on(t, w.undo)
			}
		})
		s.on(t, w.set)
		s.login(t, w.ssh)
		if w.fails != "" {
			for _, args := range [][]string{{"doctor"}, {"plan"}} {
				if out := flat(s.run(t, 3, args...)); !strings.Contains(out, w.fails) {
					t.Errorf("virtrust %s does not say %q:\n%s", args[0], w.fails, out)
				}
			}
			return
		}
		if out := flat(s.run(t, 0, "doctor")); !strings.Contains(out, w.says) {
			t.Errorf("doctor does not say %q:\n%s", w.says, out)
		}
		before := s.serial(t)
		s.run(t, 0, "apply", "--yes", "--replace", "certificate.libvirt-server")
		if after := s.serial(t); after == before {
			t.Error("the certificate that is served was not replaced")
		}
		s.run(t, 0, "plan", "--detailed-exitcode")
	})
}

func flat(text string) string { return strings.Join(strings.Fields(text), " ") }

// serial is of the certificate that the host's listener shows; "" where there
// is none.
func (s *loginSite) serial(t *testing.T) string {
	t.Helper()
	return s.on(t, "o=$(ls /usr/bin/openssl*|head -n 1); $o s_client -connect 127.0.0.1:16514 </dev/null 2>/dev/null | $o x509 -noout -serial 2>/dev/null || :")
}
