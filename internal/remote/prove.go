package remote

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

// Prove looks at what the listener serves and has peers dial it.
func (s *Session) Prove(ctx context.Context, peers []plan.Peer) (plan.Proof, error) {
	ctx, cancel := context.WithTimeout(ctx, min(45*time.Second, s.cfg.RevertAfter*2/3))
	defer cancel()
	proof := plan.Proof{Leaves: map[string]string{}}
	for name, der := range s.staged.leaves {
		proof.Leaves[name] = plan.Digest(der)
	}
	for name, text := range s.checked {
		if why, not := strings.CutPrefix(text, "not asked: "); not {
			proof.NotChecked = append(proof.NotChecked, name+": "+why)
			continue
		}
		if proof.Checked == nil {
			proof.Checked = map[string]string{}
		}
		proof.Checked[name] = text
	}
	if s.changesFirewall() {
		if err := s.newLogin(ctx); err != nil {
			return proof, err
		}
	}
	if err := s.proveConsoles(ctx, &proof); err != nil {
		return proof, err
	}
	if s.serving.Port == 0 || s.closes() {
		return proof, nil
	}
	want := s.leafAfter(s.serving)
	if want == nil {
		return proof, errors.New("no certificate is known that the listener should show")
	}
	for _, addr := range s.listenAddresses() {
		seen, err := s.served(ctx, addr)
		if err != nil {
			return proof, &Error{Class: ClassProof, Host: s.end.label(), Op: "proving", Err: fmt.Errorf("%s shows no certificate: %w", addr, unwrapped(err)), Hint: "look at `journalctl -u libvirtd -u virtproxyd` on the host"}
		}
		if len(seen.Chain) == 0 || string(seen.Chain[0]) != string(want) {
			return proof, &Error{Class: ClassProof, Host: s.end.label(), Op: "proving", Err: fmt.Errorf("%s shows another certificate than the new one", addr), Hint: "does something else listen on that port?"}
		}
		proof.Addresses = append(proof.Addresses, addr)
	}
	proof.Served = plan.Digest(want)
	return proof, s.askPeers(ctx, peers, &proof)
}

// closes reports whether the plan takes the listener away.
func (s *Session) closes() bool {
	return slices.ContainsFunc(s.ops, func(o plan.Op) bool {
		u, ok := o.(plan.SetUnit)
		a, is := o.(plan.Activate)
		return ok && !u.Active || is && a.Closes
	})
}

// leafAfter is the DER of the leaf that should be shown after the switch: a new
// one, one of the generation that a link goes back to, or the one that lay
// there before.
func (s *Session) leafAfter(of Serving) []byte {
	if leaf := s.staged.leaves[of.Certificate]; leaf != nil {
		return leaf
	}
	content, _ := s.seen.Content(of.Path)
	real, _, _ := s.seen.Resolve(of.Path)
	for _, o := range s.ops {
		if l, ok := o.(plan.Link); ok && path.Dir(real) == l.Path {
			content, _ = s.seen.Content(path.Join(path.Dir(l.Path), l.Target, path.Base(real)))
		}
	}
	if block, _ := pem.Decode(content); block != nil {
		return block.Bytes
	}
	return nil
}

// served looks at a listener, and again when that did not answer: a daemon on a
// busy host may need a moment after its restart.
func (s *Session) served(ctx context.Context, addr string) (Served, error) {
	for try := 1; ; try++ {
		seen, err := s.Conn().Served(ctx, addr, "")
		if err == nil || try == 3 || ClassOf(err) == ClassProhibited || lost(err) && ClassOf(err) != ClassTimeout && ClassOf(err) != ClassProtocol {
			return seen, err
		}
		select {
		case <-ctx.Done():
			return seen, err
		case <-time.After(time.Second):
		}
	}
}

// askPeers has every peer dial. One acceptance proves; refusals alone revert;
// a peer's own trouble proves nothing.
func (s *Session) askPeers(ctx context.Context, peers []plan.Peer, proof *plan.Proof) error {
	if len(peers) == 0 {
		proof.NotProved = "no peer was at hand"
		return nil
	}
	var refusal error
	var ill []string
	for _, p := range peers {
		err := p.Accepted(ctx, s.end.Address)
		var refused *plan.RefusedError
		switch {
		case err == nil:
			proof.Peers = append(proof.Peers, p.Name())
		case errors.As(err, &refused):
			refusal = fmt.Errorf("%s is refused: %w", p.Name(), err)
		default:
			ill = append(ill, p.Name()+": "+clean(err.Error(), 160))
		}
	}
	if len(proof.Peers) == 0 && refusal != nil {
		return &Error{Class: ClassProof, Host: s.end.label(), Op: "proving", Err: refusal, Hint: "compare the authorities of both hosts: virtrust verify"}
	}
	if len(proof.Peers) == 0 {
		proof.NotProved = strings.Join(ill, "; ")
	}
	return nil
}

// listenAddresses are the addresses that the listener was seen on, the
// wildcard as loopback. A listener that is new was not seen yet.
func (s *Session) listenAddresses() []string {
	port := strconv.Itoa(s.serving.Port)
	var out []string
	for _, l := range s.seen.Listening {
		if int(l.Port()) == s.serving.Port && !l.Addr().IsUnspecified() {
			out = append(out, l.String())
		}
	}
	if len(out) == 0 {
		out = append(out, net.JoinHostPort("127.0.0.1", port))
	}
	return out
}

func unwrapped(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err
	}
	return err
}

// Peer dials other hosts from one host with that host's client certificate.
type Peer struct {
	Host string
	Conn func(ctx context.Context) (*Conn, error)
	Port int
}

// Name is the host that dials.
func (p Peer) Name() string { return p.Host }

// Accepted opens libvirt at address as a migration would, read-only.
func (p Peer) Accepted(ctx context.Context, address string) error {
	c, err := p.Conn(ctx)
	if err != nil {
		return err
	}
	uri := "qemu+tls://" + bracket(address)
	if p.Port != 0 && p.Port != 16514 {
		uri += ":" + strconv.Itoa(p.Port)
	}
	script := "LC_ALL=C; PATH=/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH\n" +
		"out=$(timeout 20 virsh -q -c " + facts.Quote(uri+"/system") + " hostname 2>&1 </dev/null); r=$?\nprintf '%s\\n' \"$out\"\nexit $r\n"
	out, err := c.Run(ctx, whole(script), Limits{Timeout: 30 * time.Second, Stdout: 64 << 10})
	if err != nil {
		return err
	}
	return dialed(out.Exit, string(out.Stdout))
}

func bracket(address string) string {
	if strings.Contains(address, ":") {
		return "[" + address + "]"
	}
	return address
}

// dialed judges what virsh said. Which side refused cannot always be told:
// with TLS 1.3 a rejected client has finished its handshake and only misses
// libvirtd's byte (verified.md §12).
func dialed(exit int, text string) error {
	if exit == 0 {
		return nil
	}
	text = clean(strings.TrimPrefix(strings.TrimSpace(lastError(text)), "error: "), 240)
	switch {
	case exit == 124:
		return errors.New("no answer within 20 s")
	case strings.Contains(text, "unable to connect to server"), strings.Contains(text, "unable to resolve"), strings.Contains(text, "not found"), strings.Contains(text, "No route"):
		return errors.New(text)
	case strings.Contains(text, "Cannot read CA certificate"), strings.Contains(text, "Cannot read certificate"), strings.Contains(text, "does not exist"):
		return errors.New(text)
	case strings.Contains(text, "TLS"), strings.Contains(text, "ertificate"), strings.Contains(text, "uthentication"):
		return &plan.RefusedError{Text: text}
	}
	return errors.New(text)
}

// lastError is the line of virsh's output that says why.
func lastError(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, l := range slices.Backward(lines) {
		if strings.HasPrefix(l, "error: ") && !strings.HasPrefix(l, "error: failed to connect to the hypervisor") {
			return l
		}
	}
	return lines[len(lines)-1]
}
