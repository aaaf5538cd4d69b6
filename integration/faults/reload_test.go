//go:build faults

package faults

import (
	"fmt"
	"strings"
	"testing"
)

// TestReloadAlone shows what libvirtd's reload does to handshakes when nothing
// of virtrust runs and nothing on disk changes. What it refuses here cannot be
// laid at virtrust's door.
func TestReloadAlone(t *testing.T) {
	s := startHosts(t, 1)[0]
	s.onboarded()
	const reloads = 300
	var ready bool
	var seen watched
	s.ask(&ready, "watch")
	s.must(fmt.Sprintf("i=0; while [ $i -lt %d ]; do virt-admin server-update-tls libvirtd >/dev/null; i=$((i+1)); done", reloads))
	s.ask(&seen, "stop")
	failed := 0
	for _, v := range seen.Violations {
		t.Logf("%.2f s %s: %s", v.At, v.Observer, v.Text)
		failed++
	}
	table.Lock()
	defer table.Unlock()
	table.notes = append(table.notes, fmt.Sprintf("Without virtrust: %d reloads by `virt-admin server-update-tls`, %d handshakes, %d kinds of failed handshakes seen.", reloads, seen.Connects, failed))
}

// TestRestartAlone shows how long libvirtd itself takes to restart under the
// same observers, without virtrust.
func TestRestartAlone(t *testing.T) {
	s := startHosts(t, 1)[0]
	s.onboarded()
	const restarts = 10
	var ready bool
	var seen watched
	s.ask(&ready, "watch", "restart")
	out := s.must(fmt.Sprintf(`i=0; while [ $i -lt %d ]; do systemctl reset-failed libvirtd.service; a=$(date +%%s); systemctl restart libvirtd.service; echo $(($(date +%%s)-a)); sleep 2; i=$((i+1)); done`, restarts))
	s.ask(&seen, "stop")
	long := 0
	for _, l := range strings.Fields(out) {
		if len(l) > 1 { // ten seconds and more
			long++
		}
	}
	table.Lock()
	defer table.Unlock()
	table.notes = append(table.notes, fmt.Sprintf("Without virtrust: %d restarts of libvirtd under the same observers, %d of them took 10 s or longer, longest time without a handshake %.1f s.", restarts, long, seen.Longest))
}
