//go:build faults

package faults

import (
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

// releases are hosts of each libvirt that the lab has, under virtrust's care.
func releases(t *testing.T) map[string]*site {
	t.Helper()
	sites := startSpecs(t, lab.HostSpec{Suite: "bookworm"}, lab.HostSpec{Suite: "trixie"}, lab.HostSpec{Suite: "forky"})
	out := map[string]*site{}
	for _, s := range sites {
		s.onboarded()
		out[strings.TrimSpace(s.must("virsh version --daemon | sed -n 's/^Running against daemon: //p'"))] = s
	}
	return out
}

func noted(format string, args ...any) {
	table.Lock()
	defer table.Unlock()
	table.notes = append(table.notes, fmt.Sprintf(format, args...))
}

// inFlight opens connections, lets something happen, and only then begins the
// handshake. It gives how many of them failed.
func (s *site) inFlight(rounds int, happen func()) (failed int, last error) {
	at := net.JoinHostPort(s.host.Addresses.Management4.String(), "16514")
	for range rounds {
		c, err := s.lab.Dial(s.t.Context(), "tcp", at)
		if err != nil {
			s.t.Error(err)
			return
		}
		time.Sleep(50 * time.Millisecond) // libvirtd has accepted it
		happen()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if err := tls.Client(c, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
			failed, last = failed+1, err
		}
		c.Close()
	}
	return failed, last
}

// TestReloadAlone shows what libvirtd's reload does to handshakes when nothing
// of virtrust runs and nothing on disk changes. What it refuses here cannot be
// laid at virtrust's door.
func TestReloadAlone(t *testing.T) {
	const rounds, reloads = 20, 100
	var all sync.WaitGroup
	for version, s := range releases(t) {
		all.Go(func() {
			pid := s.must("systemctl show -p MainPID --value libvirtd.service")
			failed, why := s.inFlight(rounds, func() {})
			if failed > 0 {
				t.Errorf("%s: %d of %d handshakes failed without a reload: %v", version, failed, rounds, why)
			}
			failed, why = s.inFlight(rounds, func() { s.must("virt-admin server-update-tls libvirtd >/dev/null") })
			text := fmt.Sprintf("%s, without virtrust: of %d connections that were open and had not begun their handshake when `virt-admin server-update-tls` ran, %d were refused (%v)", version, rounds, failed, why)
			var ready bool
			var seen watched
			s.ask(&ready, "watch")
			s.must(fmt.Sprintf("i=0; while [ $i -lt %d ]; do virt-admin server-update-tls libvirtd >/dev/null 2>&1 || sleep 1; i=$((i+1)); done", reloads))
			s.ask(&seen, "stop")
			text += fmt.Sprintf("; of %d complete ones beside %d further reloads %d were", seen.Connects, reloads, seen.Failed)
			said := strings.TrimSpace(s.must("journalctl -q --no-pager -u libvirtd.service | grep -c 'No supported cipher suites' || :"))
			if now := s.must("systemctl show -p MainPID --value libvirtd.service"); now != pid {
				text += "; libvirtd did not survive it"
			}
			noted("%s. libvirtd's journal says `No supported cipher suites` %s times.", text, said)
			t.Log(text, said)
		})
	}
	all.Wait()
}

// restartScript restarts libvirtd as virtrust does, and tells how many ms it
// took and, where the old daemon was still there after five seconds, what its
// threads were.
const restartScript = `
old=$(systemctl show -p MainPID --value libvirtd.service)
systemctl reset-failed libvirtd.service
a=$(date +%s%3N)
systemctl restart libvirtd.service & r=$!
i=0; while kill -0 $r 2>/dev/null && [ $i -lt 50 ]; do sleep 0.1; i=$((i+1)); done
threads=
if kill -0 $r 2>/dev/null && [ -d /proc/$old ]; then
	for t in /proc/$old/task/*; do threads="$threads $(cat $t/comm | tr ' ' _)"; done
fi
wait $r
echo $(($(date +%s%3N)-a)) $threads
`

// TestRestartAlone shows how long libvirtd itself takes to restart without
// virtrust: with nobody who dials, and with the sweep's own observer.
func TestRestartAlone(t *testing.T) {
	const restarts = 10
	var all sync.WaitGroup
	for version, s := range releases(t) {
		all.Go(func() {
			for _, dialled := range []bool{false, true} {
				var ready bool
				var seen watched
				if dialled {
					s.ask(&ready, "watch", "restart")
				}
				var longest, long int
				threads := ""
				for range restarts {
					f := strings.Fields(s.must("sleep 1\n" + restartScript))
					if len(f) == 0 {
						t.Errorf("%s: a restart told nothing", version)
						return
					}
					ms, _ := strconv.Atoi(f[0])
					longest = max(longest, ms)
					if ms > 10_000 {
						long++
						threads = strings.Join(f[1:], " ")
					}
				}
				text := fmt.Sprintf("%s, without virtrust, clients that dial every 50 ms: %v: %d restarts, %d took 10 s or longer, the longest %.1f s", version, dialled, restarts, long, float64(longest)/1000)
				if dialled {
					s.ask(&seen, "stop")
					text += fmt.Sprintf(", longest time without a handshake %.1f s, %.1f s of it outside of the restart", seen.Longest, seen.Outside)
				}
				if threads != "" {
					text += "; threads of the daemon that would not stop: " + threads
				}
				noted("%s.", text)
				t.Log(text)
				for _, v := range seen.Violations {
					t.Errorf("%s: %s: %s", version, v.Observer, v.Text)
				}
			}
		})
	}
	all.Wait()
}
