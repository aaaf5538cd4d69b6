package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

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

	once   sync.Once
	ids    identities
	keys   hostKeys
	ways   ways
	jumps  jumpHosts
	starts startLimits

	mu      sync.Mutex
	refused map[string]error // logins that were refused: they are not tried again
}

// Close ends the connections to agents, and those to jump hosts that nobody
// uses. Connections to hosts live on, and the jump hosts that they need.
func (d *Dialer) Close() error {
	d.jumps.close()
	return d.ids.close()
}

// Connect opens an authenticated connection to e: at most 10 s for TCP and 15 s
// for SSH, and the same again for each jump host that nobody has reached yet.
// A host's key is judged before any key of ours is offered, and an
// authentication is tried once in the life of a Dialer. Errors are of type
// [*Error].
func (d *Dialer) Connect(ctx context.Context, e Endpoint) (*Conn, error) {
	w, err := d.ways.resolve(e)
	if err != nil {
		return nil, &Error{Class: ClassConfiguration, Host: e.label(), Op: "finding the way in", Err: err}
	}
	return d.connect(ctx, w)
}

func (d *Dialer) connect(ctx context.Context, w *way) (*Conn, error) {
	d.once.Do(func() { d.ids.passphrase = d.Passphrase })
	d.mu.Lock()
	refused := d.refused[w.id()]
	d.mu.Unlock()
	if refused != nil {
		return nil, refused
	}
	verify, err := d.keys.verifier(w)
	if err != nil {
		return nil, &Error{Class: ClassConfiguration, Host: w.label(), Op: "reading known host keys", Err: err}
	}
	raw, err := d.transport(ctx, w)
	if err != nil {
		return nil, err
	}
	addr := w.address()
	trace(ctx, w.label(), PhaseTCP, addr)
	leave, err := d.starts.enter(ctx, addr)
	if err != nil {
		_ = raw.Close()
		return nil, &Error{Class: netClass(ctx, err, ClassInterrupted), Host: w.label(), Op: "waiting to log in to " + addr, Err: err}
	}
	h := &handshake{dialer: d, way: w, verify: verify, wire: newWire(raw, handshakeBytes)}
	client, err := h.run(ctx, addr)
	leave()
	if err != nil {
		_ = h.wire.Close()
		if ClassOf(err) == ClassAuthentication {
			d.mu.Lock()
			if d.refused == nil {
				d.refused = map[string]error{}
			}
			d.refused[w.id()] = err
			d.mu.Unlock()
		}
		return nil, err
	}
	h.wire.limit.Store(connectionBytes)
	trace(ctx, w.label(), PhaseAuthentication, "as "+w.User)
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	log.Debug("connected", "host", w.label(), "address", addr, "user", w.User, "host_key", h.seen, "server", clean(string(client.ServerVersion()), 80), "trips", h.wire.count(), "origin", w.origin())
	c := newConn(w.label(), client, h.wire, h.seen, log)
	c.become, c.password = w.Become, w.SudoPassword
	return c, nil
}

// transport opens what SSH will run over: TCP, or a channel of a jump host.
func (d *Dialer) transport(ctx context.Context, w *way) (net.Conn, error) {
	if w.via != nil {
		return d.through(ctx, w)
	}
	dial := d.Dial
	if dial == nil {
		dialer := &net.Dialer{}
		if w.bind != "" {
			local, err := net.ResolveTCPAddr(w.network, net.JoinHostPort(w.bind, "0"))
			if err != nil {
				return nil, &Error{Class: ClassConfiguration, Host: w.label(), Op: "reading BindAddress", Err: err}
			}
			dialer.LocalAddr = local
		}
		dial = dialer.DialContext
	}
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := dial(dialCtx, w.network, w.address())
	if err != nil {
		c := netClass(dialCtx, err, ClassUnreachable)
		op := "connecting to " + w.address()
		if o := w.origin(); o != "" {
			op += " (" + o + ")"
		}
		var of *net.OpError
		if errors.As(err, &of) && (of.Addr == nil || of.Addr.String() == w.address()) {
			err = of.Err // the rest says the address once more
		}
		return nil, &Error{Class: c, Host: w.label(), Op: op, Err: err, Hint: dialHints[c]}
	}
	return raw, nil
}

var dialHints = map[Class]string{
	ClassDNS:         "check the host's address",
	ClassRefused:     "is sshd running, and is this its port?",
	ClassUnreachable: "check the route to the host",
	ClassTimeout:     "is the host up, and does a firewall let SSH through?",
}

// handshake is one attempt to become a client of one host.
type handshake struct {
	dialer *Dialer
	way    *way
	verify *verifier
	wire   *wire
	limit  *time.Timer

	mu      sync.Mutex
	told    bool // the host was told the password
	over    bool // it will not be told it any more
	settle  func(verdict)
	asked   error  // why what the host asked was not answered
	seen    string // fingerprint of the host key, once it is accepted
	refused error  // what the host key check said
	offered []string
	notes   []error
}

func (h *handshake) run(ctx context.Context, addr string) (*ssh.Client, error) {
	h.limit = time.NewTimer(handshakeTimeout)
	defer h.limit.Stop()
	algorithms := ssh.SupportedAlgorithms()
	config := &ssh.ClientConfig{
		Config:            ssh.Config{KeyExchanges: algorithms.KeyExchanges, Ciphers: algorithms.Ciphers, MACs: algorithms.MACs},
		User:              h.way.User,
		HostKeyAlgorithms: h.verify.algorithms(),
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			trace(ctx, h.way.label(), PhaseAlgorithms, "")
			err := h.verify.check(key)
			h.mu.Lock()
			defer h.mu.Unlock()
			h.refused = err
			if err == nil {
				h.seen = fingerprint(key)
				trace(ctx, h.way.label(), PhaseHostKey, key.Type()+" "+h.seen)
			}
			return err
		},
		Auth:           append([]ssh.AuthMethod{ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { return h.offer(ctx) })}, h.passwords(ctx)...),
		BannerCallback: func(string) error { return nil },
	}
	defer h.settled(undecided)

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
			err := h.explain(ctx, addr, r.err)
			if ClassOf(err) == ClassAuthentication {
				h.settled(rejected)
			}
			return nil, err
		}
		h.settled(accepted)
		return r.client, nil
	case <-h.limit.C:
		_ = h.wire.Close()
		return nil, h.explain(ctx, addr, context.DeadlineExceeded)
	case <-ctx.Done():
		_ = h.wire.Close()
		return nil, h.explain(ctx, addr, context.Cause(ctx))
	}
}

// waiting stops the clock of the handshake while f waits for a person, or for
// another host's answer.
func (h *handshake) waiting(f func()) {
	if h.limit.Stop() {
		defer h.limit.Reset(handshakeTimeout)
	}
	f()
}

func (h *handshake) offer(ctx context.Context) ([]ssh.Signer, error) {
	var keys []ssh.Signer
	var notes []error
	h.waiting(func() { keys, notes = h.dialer.ids.signers(ctx, h.way) })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = notes
	for _, k := range keys {
		h.offered = append(h.offered, ssh.FingerprintSHA256(k.PublicKey()))
	}
	if len(keys) == 0 && h.way.Password == nil {
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
	out := &Error{Host: h.way.label(), Op: "SSH handshake with " + addr, Err: err}
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
	case h.seen != "" && (h.asked != nil || refusesUs(err)):
		out.Class = ClassAuthentication
		out.Op = "logging in as " + h.way.User + " on " + addr
		if s, ok := h.way.from["user"]; ok {
			out.Op += " (User from " + s.String() + ")"
		}
		out.Err, out.Hint = h.refusal(err)
	default:
		out.Class = class
	}
	return out
}

func (h *handshake) refusal(err error) (error, string) { //nolint:staticcheck // ST1008: the error and its hint
	notes := errors.Join(h.notes...)
	switch {
	case h.asked != nil:
		return h.asked, "log in with a key: name it with identity, or start an agent and ssh-add it"
	case h.told:
		return errors.New("the host does not accept the password"), "is it this user's password, and does sshd_config allow it (PasswordAuthentication, PermitRootLogin)? It is not tried again, and on no other host"
	}
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
	return errors.Is(err, errNoKey) || errors.Is(err, errRejected) || strings.Contains(text, "unable to authenticate") || strings.Contains(text, "agent:") ||
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
