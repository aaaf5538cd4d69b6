package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// Dialer connects to the hosts of one run. It reads key files, known_hosts and
// the agent once for all of them. Its zero value works; it is safe for use by
// many goroutines, and must not be copied after first use.
type Dialer struct {
	// Dial opens the transport; nil means a plain TCP connection.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Passphrase, when set, is asked once for each encrypted identity file that
	// the agent does not hold. Calls for different files may be concurrent.
	Passphrase func(ctx context.Context, file string) ([]byte, error)

	Log *slog.Logger // nil means no log

	once sync.Once
	ids  identities
	keys hostKeys
}

// Close ends the connection to the agent. Connections to hosts live on.
func (d *Dialer) Close() error { return d.ids.close() }

// Connect opens an authenticated connection to e: at most 10 s for TCP and 15 s
// for SSH. The host's key is judged before any key of ours is offered, and an
// authentication is tried once. Errors are of type [*Error].
func (d *Dialer) Connect(ctx context.Context, e Endpoint) (*Conn, error) {
	d.once.Do(func() { d.ids.passphrase = d.Passphrase })
	fail := func(c Class, op string, err error, hint string) (*Conn, error) {
		return nil, &Error{Class: c, Host: e.label(), Op: op, Err: err, Hint: hint}
	}
	verify, err := d.keys.verifier(e)
	if err != nil {
		return fail(ClassConfiguration, "reading known host keys", err, "")
	}
	addr := net.JoinHostPort(e.Address, strconv.Itoa(e.port()))
	dial := d.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	raw, err := dial(dialCtx, "tcp", addr)
	if err != nil {
		c := netClass(dialCtx, err, ClassUnreachable)
		cancel()
		return fail(c, "connecting to "+addr, err, dialHints[c])
	}
	cancel()
	trace(ctx, e.label(), PhaseTCP, addr)

	h := &handshake{dialer: d, endpoint: e, verify: verify, wire: newWire(raw, handshakeBytes)}
	client, err := h.run(ctx, addr)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	h.wire.limit.Store(connectionBytes)
	trace(ctx, e.label(), PhaseAuthentication, "as "+e.user())
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log.Debug("connected", "host", e.label(), "address", addr, "host_key", h.seen, "server", clean(string(client.ServerVersion()), 80), "trips", h.wire.count())
	c := newConn(e.label(), client, h.wire, h.seen, log)
	c.become, c.password = e.Become, e.SudoPassword
	return c, nil
}

var dialHints = map[Class]string{
	ClassDNS:         "check the host's address",
	ClassRefused:     "is sshd running, and is this its port?",
	ClassUnreachable: "check the route to the host",
	ClassTimeout:     "is the host up, and does a firewall let SSH through?",
}

// handshake is one attempt to become a client of one host.
type handshake struct {
	dialer   *Dialer
	endpoint Endpoint
	verify   *verifier
	wire     *wire

	mu      sync.Mutex
	seen    string // fingerprint of the host key, once it is accepted
	refused error  // what the host key check said
	offered []string
	notes   []error
}

func (h *handshake) run(ctx context.Context, addr string) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	algorithms := ssh.SupportedAlgorithms()
	config := &ssh.ClientConfig{
		Config:            ssh.Config{KeyExchanges: algorithms.KeyExchanges, Ciphers: algorithms.Ciphers, MACs: algorithms.MACs},
		User:              h.endpoint.user(),
		HostKeyAlgorithms: h.verify.algorithms(),
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			trace(ctx, h.endpoint.label(), PhaseAlgorithms, "")
			err := h.verify.check(key)
			h.mu.Lock()
			defer h.mu.Unlock()
			h.refused = err
			if err == nil {
				h.seen = fingerprint(key)
				trace(ctx, h.endpoint.label(), PhaseHostKey, key.Type()+" "+h.seen)
			}
			return err
		},
		Auth:           []ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return h.offer(ctx) })},
		BannerCallback: func(string) error { return nil },
	}

	type result struct {
		client *ssh.Client
		err    error
	}
	done := make(chan result, 1)
	// A goroutine of its own, because an agent that waits for a finger on a
	// token is not ended by closing the host's connection.
	go func() {
		conn, chans, reqs, err := ssh.NewClientConn(h.wire, addr, config)
		if err != nil {
			done <- result{err: err}
			return
		}
		if ctx.Err() != nil {
			_ = conn.Close()
		}
		done <- result{client: ssh.NewClient(conn, chans, reqs)}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, h.explain(ctx, addr, r.err)
		}
		return r.client, nil
	case <-ctx.Done():
		_ = h.wire.Close()
		return nil, h.explain(ctx, addr, context.Cause(ctx))
	}
}

func (h *handshake) offer(ctx context.Context) ([]ssh.Signer, error) {
	keys, notes := h.dialer.ids.signers(ctx, h.endpoint)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = notes
	for _, k := range keys {
		h.offered = append(h.offered, ssh.FingerprintSHA256(k.PublicKey()))
	}
	if len(keys) == 0 {
		return nil, errNoKey
	}
	return keys, nil
}

// explain turns the error of a handshake into one that says at which point it
// stood and what to do.
func (h *handshake) explain(ctx context.Context, addr string, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var refused *Error
	if errors.As(h.refused, &refused) {
		return refused
	}
	out := &Error{Host: h.endpoint.label(), Op: "SSH handshake with " + addr, Err: err}
	var algorithm *ssh.AlgorithmNegotiationError
	opening := string(h.wire.opening())
	class := netClass(ctx, err, ClassProtocol)
	switch {
	case h.wire.overflow.Load():
		out.Class, out.Err = ClassProtocol, ErrOutputLimit
	case class == ClassTimeout, class == ClassInterrupted:
		out.Class = class
		if class == ClassTimeout {
			out.Err = fmt.Errorf("no answer within %s: %w", handshakeTimeout, context.DeadlineExceeded)
		}
	case errors.As(err, &algorithm):
		out.Class = ClassAlgorithm
		out.Err = fmt.Errorf("no common %s: the host offers %s, we allow %s", algorithm.What,
			algorithmNames(algorithm.RequestedAlgorithms), algorithmNames(algorithm.SupportedAlgorithms))
		out.Hint = "update the host's OpenSSH, or allow a current algorithm in its sshd_config"
		if algorithm.What == "host key" {
			out.Hint = "known_hosts has no key of a type that the host offers: compare the host's key on its console and add it"
		}
	case h.seen == "" && (class == ClassLost) && !strings.Contains(opening, "SSH-2.0-"):
		out.Class = ClassThrottled
		out.Err = errors.New("the host closed the connection before it said its SSH version")
		if opening != "" {
			out.Err = fmt.Errorf("the host closed the connection and said %q", clean(opening, 120))
		}
		out.Hint = "sshd may be limiting connections (MaxStartups, PerSourcePenalties, a firewall's rate limit): wait, then try fewer hosts at once"
	case h.seen != "" && refusesUs(err):
		out.Class = ClassAuthentication
		out.Op = "logging in as " + h.endpoint.user() + " on " + addr
		out.Err, out.Hint = h.refusal(err)
	default:
		out.Class = class
	}
	return out
}

func (h *handshake) refusal(err error) (error, string) { //nolint:staticcheck // ST1008: the error and its hint
	notes := errors.Join(h.notes...)
	if len(h.offered) == 0 {
		if notes == nil {
			notes = errors.New("no ssh-agent and no key file")
		}
		return fmt.Errorf("no key to offer: %w", notes), "name a private key with identity, or start an agent and ssh-add it"
	}
	msg := fmt.Errorf("the host accepts none of the keys offered (%s): %w", strings.Join(h.offered, ", "), err)
	if notes != nil {
		msg = fmt.Errorf("%w; not offered: %w", msg, notes)
	}
	return msg, "add one of these keys to the user's authorized_keys on the host, or name another with identity; not tried again, because sshd punishes repeated refusals"
}

var errNoKey = errors.New("no key to offer")

// refusesUs tells a refused login from a broken line. x/crypto/ssh has no type
// for it; sshd disconnects when MaxAuthTries is reached, and an agent may
// refuse to sign.
func refusesUs(err error) bool {
	text := strings.ToLower(err.Error())
	return errors.Is(err, errNoKey) || strings.Contains(text, "unable to authenticate") || strings.Contains(text, "agent:") ||
		strings.Contains(text, "disconnect, reason") && strings.Contains(text, "authentication")
}

// algorithmNames leaves out the markers that stand among key exchanges.
func algorithmNames(all []string) string {
	var names []string
	for _, a := range all {
		if !strings.HasPrefix(a, "ext-info-") && !strings.HasPrefix(a, "kex-strict-") {
			names = append(names, a)
		}
	}
	return strings.Join(names, ", ")
}
