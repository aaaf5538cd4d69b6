package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// onHosts is the processors' time that the hosts of a lab have used so far:
// that of each host's processes and of those that they have waited for. 0 for
// hosts that are no namespaces.
func (s *site) onHosts() time.Duration {
	if s.lab == nil {
		return 0
	}
	mine := map[uint64]bool{}
	for i := range s.lab.Hosts() {
		if info, err := os.Stat(fmt.Sprintf("/run/netns/%sh%d", strings.TrimSuffix(s.lab.Namespace(), "c"), i+1)); err == nil {
			mine[info.Sys().(*syscall.Stat_t).Ino] = true
		}
	}
	var ticks int64
	spaces, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, p := range spaces {
		info, err := os.Stat(p)
		if err != nil || !mine[info.Sys().(*syscall.Stat_t).Ino] {
			continue
		}
		stat, err := os.ReadFile(strings.TrimSuffix(p, "ns/net") + "stat")
		if err != nil {
			continue
		}
		// After the name in parentheses: fields 14 to 17 of proc_pid_stat(5).
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, v := range f[11:15] {
			n, _ := strconv.ParseInt(v, 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ, the same on every Linux that Go runs on
}
