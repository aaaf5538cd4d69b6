// Command sftpfault stands between sshd and OpenSSH's sftp-server and answers
// the n-th request with an error, or never. It is a lab host's SFTP subsystem
// while a test lasts.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
)

// faultFile holds: number of the request, status code (or -1 for no answer
// ever), and 1 when the request is carried out all the same.
const faultFile = "/var/tmp/sftpfault"

// struckFile is made when the fault was hit.
const struckFile = "/var/tmp/sftpfault.struck"

func packet(r io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	p := make([]byte, 4+binary.BigEndian.Uint32(head))
	copy(p, head)
	_, err := io.ReadFull(r, p[4:])
	return p, err
}

func status(id []byte, code uint32) []byte {
	const text = "planted by the test"
	b := append([]byte{0, 0, 0, 0, 101}, id...)
	b = binary.BigEndian.AppendUint32(b, code)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	b = binary.BigEndian.AppendUint32(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func main() {
	var n, code, carried int
	if text, err := os.ReadFile(faultFile); err == nil {
		fmt.Sscan(string(text), &n, &code, &carried)
	}
	server := exec.Command("/usr/lib/openssh/sftp-server")
	in, err := server.StdinPipe()
	if err != nil {
		os.Exit(1)
	}
	out, err := server.StdoutPipe()
	if err != nil {
		os.Exit(1)
	}
	if err := server.Start(); err != nil {
		os.Exit(1)
	}
	var mu sync.Mutex
	swallow := map[string]bool{}
	go func() {
		for {
			p, err := packet(out)
			if err != nil {
				os.Exit(0)
			}
			mu.Lock()
			id := string(p[5:9])
			if p[4] != 2 && swallow[id] { // 2 is the version, which has no id
				delete(swallow, id)
				mu.Unlock()
				continue
			}
			os.Stdout.Write(p)
			mu.Unlock()
		}
	}()
	for count := 0; ; count++ { // the first packet opens the protocol
		p, err := packet(os.Stdin)
		if err != nil {
			break
		}
		if count == 0 || count != n {
			in.Write(p)
			continue
		}
		os.WriteFile(struckFile, nil, 0o600)
		mu.Lock()
		if carried == 1 {
			swallow[string(p[5:9])] = true
			in.Write(p)
		}
		if code >= 0 {
			os.Stdout.Write(status(p[5:9], uint32(code)))
		}
		mu.Unlock()
	}
	in.Close()
	server.Wait()
}
