package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// A process is the identity of a process on one machine between two boots. A
// process id alone is used again; with the start time it is not.
type process struct {
	Machine   string `json:"machine"`
	Boot      string `json:"boot"`      // kernel's boot id; empty where there is no /proc
	Namespace string `json:"namespace"` // of process ids: containers on one machine see different ones
	ID        int    `json:"id"`
	Start     string `json:"start"` // in clock ticks since boot, as /proc says it
}

// thisProcess describes the calling process. What the system does not tell
// stays empty.
func thisProcess() process {
	p := process{ID: os.Getpid()}
	p.Machine, _ = os.Hostname()
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		p.Boot = strings.TrimSpace(string(boot))
	}
	p.Namespace, _ = os.Readlink("/proc/self/ns/pid")
	p.Start, _, _ = processStart(p.ID)
	return p
}

// processStart reads the start time and the state letter of a process.
func processStart(id int) (start, state string, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return "", "", err
	}
	// The second field is the command in brackets, which may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return "", "", fmt.Errorf("/proc/%d/stat has %d fields", id, len(fields)+2)
	}
	return fields[19], fields[0], nil
}

// gone reports whether p has ended, as far as self can know: known is false for
// a process of another machine or container.
func (p process) gone(self process) (gone, known bool) {
	if p.Boot == "" || self.Boot == "" {
		return false, false
	}
	if p.Boot != self.Boot {
		// The same machine after a reboot; another machine is not known.
		return true, p.Machine == self.Machine
	}
	if p.Namespace != self.Namespace || p.Namespace == "" {
		return false, false
	}
	start, state, err := processStart(p.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return true, true
	}
	if err != nil {
		return false, false
	}
	return start != p.Start || state == "Z" || state == "X", true
}
