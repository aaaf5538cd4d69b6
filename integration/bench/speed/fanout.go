package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// handshakeLimit is how long virtrust waits for a host that says nothing.
const handshakeLimit = 15 * time.Second

// fanout is the bare client that others are compared with: it connects to the
// addresses on its standard input with the algorithms that virtrust allows,
// compares the host's key with known_hosts, proves its own, runs a command or
// nothing, and leaves.
func fanout(args []string) error {
	f := flag.NewFlagSet("fanout", flag.ContinueOnError)
	identity := f.String("identity", "", "private key")
	known := f.String("known-hosts", "", "known_hosts file, without patterns")
	command := f.String("run", "", "command to run, or none")
	parallel := f.Int("parallel", 64, "hosts at once")
	if err := f.Parse(args); err != nil {
		return err
	}
	key, err := os.ReadFile(*identity)
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return err
	}
	keys, err := readKnown(*known)
	if err != nil {
		return err
	}
	algorithms := ssh.SupportedAlgorithms()
	config := &ssh.ClientConfig{
		Config: ssh.Config{KeyExchanges: algorithms.KeyExchanges, Ciphers: algorithms.Ciphers, MACs: algorithms.MACs},
		User:   "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		HostKeyCallback: func(address string, _ net.Addr, key ssh.PublicKey) error {
			if !keys[knownhosts.Normalize(address)+" "+string(key.Marshal())] {
				return fmt.Errorf("the key of %s is not known", address)
			}
			return nil
		},
	}
	one := func(address string) error {
		raw, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(handshakeLimit))
		conn, channels, requests, err := ssh.NewClientConn(raw, address, config)
		if err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
		_ = raw.SetDeadline(time.Time{})
		client := ssh.NewClient(conn, channels, requests)
		defer client.Close()
		if *command == "" {
			return nil
		}
		session, err := client.NewSession()
		if err != nil {
			return err
		}
		return session.Run(*command)
	}
	slots := make(chan struct{}, *parallel)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		address := in.Text()
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := one(address); err != nil {
				mu.Lock()
				failed = append(failed, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// readKnown reads the names and keys of a known_hosts file.
func readKnown(file string) (map[string]bool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for {
		_, names, key, _, rest, err := ssh.ParseKnownHosts(text)
		if errors.Is(err, io.EOF) {
			return keys, nil
		} else if err != nil {
			return nil, err
		}
		for _, n := range names {
			keys[n+" "+string(key.Marshal())] = true
		}
		text = rest
	}
}
