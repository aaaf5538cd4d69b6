package remote

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

// ErrPlainConsole means that a VNC console offers no TLS with certificates.
var ErrPlainConsole = errors.New("the console is not encrypted with a certificate")

// How long a look at all consoles of a host may take, and how many are looked
// at side by side.
const (
	consolesTimeout = 60 * time.Second
	consolesAtOnce  = 8
)

// Console looks at what a VNC console of the host shows: VeNCrypt (type 19 of
// RFB 3.8) in one of its kinds with X.509. The address is "host:port" or the
// path of a socket. The look ends with the TLS handshake: no client is
// registered, and no other one is disturbed. The error is [ErrPlainConsole]
// where the console offers none of them, else as those of [Conn.Served].
func (c *Conn) Console(ctx context.Context, addr string) (Served, error) {
	op := "looking at the console on " + addr
	ctx, cancel := context.WithTimeout(ctx, servedTimeout)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	raw, err := c.Forward(ctx, network, addr)
	if err != nil {
		return Served{}, err
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(servedTimeout))
	if err := vencrypt(raw); err != nil {
		return Served{}, c.tlsError(ctx, op, err)
	}
	seen, _, err := c.handshake(ctx, op, raw, "")
	return seen, err
}

// Numbers of RFB and VeNCrypt.
const (
	rfbVeNCrypt  = 19
	x509None     = 260
	x509SASL     = 263 // x509vnc and x509plain lie between the two
	maxVNCOffers = 32
)

// vencrypt leads a VNC server to the point where TLS begins.
func vencrypt(rw io.ReadWriter) error {
	version := make([]byte, 12)
	if _, err := io.ReadFull(rw, version); err != nil {
		return fmt.Errorf("no greeting of VNC: %w", err)
	}
	if !bytes.HasPrefix(version, []byte("RFB 003.")) {
		return errors.New("it does not speak VNC")
	}
	if _, err := rw.Write([]byte("RFB 003.008\n")); err != nil {
		return err
	}
	types, err := offers(rw, 1)
	if err != nil {
		return err
	}
	if !slices.Contains(types, rfbVeNCrypt) {
		return ErrPlainConsole
	}
	if _, err := rw.Write([]byte{rfbVeNCrypt}); err != nil {
		return err
	}
	own := make([]byte, 2)
	if _, err := io.ReadFull(rw, own); err != nil {
		return fmt.Errorf("no version of VeNCrypt: %w", err)
	}
	if _, err := rw.Write([]byte{0, 2}); err != nil {
		return err
	}
	if err := agreed(rw, 0); err != nil {
		return err
	}
	kinds, err := offers(rw, 4)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(kinds, func(k uint32) bool { return k >= x509None && k <= x509SASL })
	if i < 0 {
		return ErrPlainConsole
	}
	if _, err := rw.Write(binary.BigEndian.AppendUint32(nil, kinds[i])); err != nil {
		return err
	}
	return agreed(rw, 1)
}

// offers reads a counted list of numbers of that many bytes.
func offers(r io.Reader, size int) ([]uint32, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, fmt.Errorf("no list of ways to log in: %w", err)
	}
	if n[0] == 0 || n[0] > maxVNCOffers {
		return nil, errors.New("the VNC server refuses the connection")
	}
	b := make([]byte, int(n[0])*size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("no list of ways to log in: %w", err)
	}
	var out []uint32
	for ; len(b) > 0; b = b[size:] {
		var v uint32
		for _, x := range b[:size] {
			v = v<<8 | uint32(x)
		}
		out = append(out, v)
	}
	return out, nil
}

func agreed(r io.Reader, ok byte) error {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return fmt.Errorf("no answer of VeNCrypt: %w", err)
	}
	if b[0] != ok {
		return errors.New("VeNCrypt was refused")
	}
	return nil
}

// lookAtConsoles looks at each console that a look found and puts what it shows
// beside what is served.
func lookAtConsoles(ctx context.Context, c *Conn, h *facts.Host) {
	ctx, cancel := context.WithTimeout(ctx, consolesTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, consolesAtOnce)
	for _, k := range h.Consoles {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			seen, err := c.Console(ctx, k.Address)
			s := facts.Served{Chain: seen.Chain}
			switch {
			case errors.Is(err, ErrPlainConsole):
				s.Problem = facts.PlainConsole
			case err != nil:
				s.Problem = servedProblem(err)
			}
			mu.Lock()
			defer mu.Unlock()
			h.Served[k.Address] = s
		})
	}
	wg.Wait()
}

// proveConsoles looks at the consoles that took up their certificate. One that
// shows another leaf is a failure, one that cannot be looked at is not: its
// guest said that it read the files.
func (s *Session) proveConsoles(ctx context.Context, proof *plan.Proof) error {
	if s.serving.Consoles == nil {
		return nil
	}
	want := s.leafAfter(*s.serving.Consoles)
	at := map[string]string{}
	for _, k := range s.seen.Consoles {
		at[k.Guest] = k.Address
	}
	old := func(guest, why string) { proof.OldConsoles = append(proof.OldConsoles, clean(guest, 80)+": "+why) }
	for _, guest := range slices.Sorted(maps.Keys(s.consoles)) {
		if why := s.consoles[guest]; why != "" {
			old(guest, why)
			continue
		}
		addr, known := at[guest]
		if !known {
			continue // it started after the look, with what lies there now
		}
		seen, err := s.Conn().Console(ctx, addr)
		switch {
		case ClassOf(err) == ClassRefused:
		case err != nil:
			old(guest, "it read the files, and its console was not seen since: "+clean(unwrapped(err).Error(), 160))
		case string(seen.Chain[0]) != string(want):
			return &Error{Class: ClassProof, Host: s.end.label(), Op: "proving", Err: fmt.Errorf("the console of guest %s shows another certificate than the new one", clean(guest, 80)), Hint: "try `virsh domdisplay-reload GUEST` on the host"}
		default:
			proof.Consoles = append(proof.Consoles, clean(guest, 80))
		}
	}
	return nil
}
