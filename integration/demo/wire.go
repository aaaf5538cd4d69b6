package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/virtrust/virtrust/integration/lab"
)

// seen is what a capture of QEMU's ports between the hosts holds.
type seen struct {
	streams    int // that begin with QEMU's mark, in clear
	handshakes int // records of TLS handshakes
}

// String tells it to people.
func (s seen) String() string {
	if s.streams > 0 {
		return fmt.Sprintf("a stream that begins with QEVM, QEMU's mark: all of the guest's memory, for whoever listens. TLS handshakes: %d.", s.handshakes)
	}
	return fmt.Sprintf("no stream that begins with QEVM, QEMU's mark; %d TLS handshake records, then nothing that can be read.", s.handshakes)
}

// watch captures what the hosts send on QEMU's ports while something is done.
func watch(ctx context.Context, l *lab.Lab, during func() error) (s seen, err error) {
	dir, err := os.MkdirTemp("", "virtrust-demo-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "wire.pcap")
	c, err := l.Capture(ctx, lab.Management, "tcp portrange 49152-49215", file)
	if err != nil {
		return s, err
	}
	if err := errors.Join(during(), c.Stop()); err != nil {
		return s, err
	}
	// Where the payload of a packet begins: tcp[] looks into IPv4 alone.
	begins := func(bytes int, with string) string {
		return fmt.Sprintf("tcp[((tcp[12]&0xf0)>>2):%[1]d]=%[2]s or ip6[(40+((ip6[52]&0xf0)>>2)):%[1]d]=%[2]s", bytes, with)
	}
	if s.streams, err = packets(ctx, file, begins(4, "0x5145564d")); err != nil {
		return s, err
	}
	s.handshakes, err = packets(ctx, file, begins(2, "0x1603"))
	return s, err
}

func packets(ctx context.Context, file, filter string) (int, error) {
	out, err := exec.CommandContext(ctx, "tcpdump", "-nr", file, filter).Output()
	if err != nil {
		return 0, fmt.Errorf("reading the capture: %w", err)
	}
	return strings.Count(string(out), "\n"), nil
}
