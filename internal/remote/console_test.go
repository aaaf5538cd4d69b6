package remote

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// vncServer speaks the part of a VNC server before TLS: what it writes is in
// the script as it is, what it reads in between is checked.
func vncServer(t *testing.T, conn net.Conn, script []string, heard []string) {
	t.Helper()
	defer conn.Close()
	for i, s := range script {
		if _, err := io.WriteString(conn, s); err != nil {
			return
		}
		if i >= len(heard) {
			continue
		}
		b := make([]byte, len(heard[i]))
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		if string(b) != heard[i] {
			t.Errorf("heard %q, want %q", b, heard[i])
		}
	}
}

func TestVeNCrypt(t *testing.T) {
	const hello = "RFB 003.008\n"
	offer := "\x00\x02"
	for _, c := range []struct {
		name   string
		script []string
		heard  []string
		want   error // nil: TLS begins; io.EOF: any error but ErrPlainConsole
	}{
		{"x509none", []string{hello, "\x01\x13", offer, "\x00\x01\x00\x00\x01\x04", "\x01"}, []string{hello, "\x13", "\x00\x02", "\x00\x00\x01\x04"}, nil},
		{"x509vnc after another", []string{hello, "\x02\x02\x13", offer, "\x00\x02\x00\x00\x01\x01\x00\x00\x01\x05", "\x01"}, []string{hello, "\x13", "\x00\x02", "\x00\x00\x01\x05"}, nil},
		{"none", []string{hello, "\x01\x01"}, []string{hello}, ErrPlainConsole},
		{"anonymous TLS", []string{hello, "\x01\x13", offer, "\x00\x01\x00\x00\x01\x01"}, []string{hello, "\x13", "\x00\x02"}, ErrPlainConsole},
		{"refuses", []string{hello, "\x00\x00\x00\x00\x03bad"}, []string{hello}, io.EOF},
		{"too many", []string{hello, "\xff"}, []string{hello}, io.EOF},
		{"no VNC", []string{"SSH-2.0-OpenSSH_9.2\r\n"}, nil, io.EOF},
		{"refuses the version", []string{hello, "\x01\x13", offer, "\x01"}, []string{hello, "\x13", "\x00\x02"}, io.EOF},
		{"refuses the kind", []string{hello, "\x01\x13", offer, "\x00\x01\x00\x00\x01\x04", "\x00"}, []string{hello, "\x13", "\x00\x02", "\x00\x00\x01\x04"}, io.EOF},
		{"cut", []string{hello, "\x02\x13"}, []string{hello}, io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer ours.Close()
			_ = ours.SetDeadline(time.Now().Add(time.Minute))
			go vncServer(t, theirs, c.script, c.heard)
			err := vencrypt(ours)
			switch {
			case c.want == nil && err != nil, c.want != nil && err == nil:
				t.Errorf("%v", err)
			case errors.Is(c.want, ErrPlainConsole) != errors.Is(err, ErrPlainConsole):
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}
