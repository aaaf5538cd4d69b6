package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// knock opens a connection to SSH over and over, from an address that nothing
// else uses: sshd punishes who only knocks. It prints the time of each, as
// microseconds since 1970, and what failed. A line "on" or "off" on its standard
// input begins and stops it.
func knock(in io.Reader, to, from string) {
	var on atomic.Bool
	go func() {
		d := &net.Dialer{Timeout: 3 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		for ; ; time.Sleep(time.Second) {
			if !on.Load() {
				continue
			}
			began := time.Now()
			c, err := d.Dial("tcp", to)
			if err != nil {
				fmt.Printf("%d %v\n", began.UnixMicro(), err)
				continue
			}
			fmt.Printf("%d\n", began.UnixMicro())
			c.Close()
		}
	}()
	for lines := bufio.NewScanner(in); lines.Scan(); {
		on.Store(lines.Text() == "on")
	}
}
