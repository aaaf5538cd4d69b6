package main

import (
	"fmt"
	"net"
	"time"
)

// knock opens a connection to SSH over and over, from an address that nothing
// else uses: sshd punishes who only knocks. It prints when nobody opened, as
// microseconds since 1970, until its standard input ends.
func knock(to, from string) {
	d := &net.Dialer{Timeout: 3 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	for {
		began := time.Now()
		c, err := d.Dial("tcp", to)
		if err != nil {
			fmt.Printf("%d %v\n", began.UnixMicro(), err)
		} else {
			fmt.Printf("%d\n", began.UnixMicro())
			c.Close()
		}
		time.Sleep(250 * time.Millisecond)
	}
}
