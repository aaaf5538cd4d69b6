package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
)

// fanout is the bare client that others are compared with: it connects to the
// addresses on its standard input, proves its key, runs a command or nothing,
// and leaves. It looks at no host key and reads no known_hosts.
func fanout(args []string) error {
	f := flag.NewFlagSet("fanout", flag.ContinueOnError)
	identity := f.String("identity", "", "private key")
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
	config := &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	one := func(address string) error {
		client, err := ssh.Dial("tcp", address, config)
		if err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
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
