package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/virtrust/virtrust/internal/remote"
	"github.com/virtrust/virtrust/internal/remote/sshconfig"
	"github.com/virtrust/virtrust/inventory"
)

// endpoint is how a host of the fleet is reached: what the inventory says
// wins, the files of ssh decide the rest. secrets completes the endpoint of a
// host of the fleet.
func endpoint(f *inventory.Fleet, h *inventory.Host, secrets func(*inventory.Host, *remote.Endpoint)) remote.Endpoint {
	return endpointBehind(f, h, secrets, 0)
}

// deepest is more than package remote goes through, so that it is there that a
// circle of jump hosts is found.
const deepest = 12

func endpointBehind(f *inventory.Fleet, h *inventory.Host, secrets func(*inventory.Host, *remote.Endpoint), depth int) remote.Endpoint {
	e := ownEndpoint(h)
	secrets(h, &e)
	if !slices.Contains(h.SSH.Set, "jump") {
		return e
	}
	e.Jump = []remote.Endpoint{}
	for i, text := range h.SSH.Jump {
		j, err := remote.ParseJump(text)
		if err != nil {
			continue // the inventory has judged it: this does not happen
		}
		// A host of the fleet keeps its own address, keys and user.
		if known, ok := f.Host(j.Address); ok {
			if known == h {
				break // a jump host of all hosts is reached by those before it
			}
			as := ownEndpoint(known)
			if secrets(known, &as); i == 0 && depth < deepest {
				as = endpointBehind(f, known, secrets, depth+1)
			}
			if j.User != "" {
				as.User = j.User
			}
			if j.Port != 0 {
				as.Port = j.Port
			}
			j = as
		}
		e.Jump = append(e.Jump, j)
	}
	return e
}

// ownEndpoint is endpoint without the hosts to go through.
func ownEndpoint(h *inventory.Host) remote.Endpoint {
	e := remote.Endpoint{Name: h.Name, Address: h.Address, HostKeys: h.HostKeys, Identity: h.SSH.Identity}
	if slices.Contains(h.SSH.Set, "port") {
		e.Port = h.SSH.Port
	}
	if slices.Contains(h.SSH.Set, "user") {
		e.User = h.SSH.User
	}
	if h.SSH.KnownHosts != "" {
		e.KnownHosts = []string{h.SSH.KnownHosts}
	}
	switch h.SSH.Config {
	case "none":
	case "":
		e.Config = remote.UserConfig()
	default:
		e.Config = []sshconfig.File{{Path: h.SSH.Config}}
	}
	return e
}

// wayIn puts what ssh's configuration files decide into the effective values
// of a host.
func wayIn(f *inventory.Fleet, host string, values []inventory.EffectiveValue) ([]inventory.EffectiveValue, error) {
	h, ok := f.Host(host)
	if !ok {
		return values, nil
	}
	said, err := (&remote.Dialer{}).Describe(endpoint(f, h, func(*inventory.Host, *remote.Endpoint) {}))
	if err != nil {
		return nil, err
	}
	for _, s := range said {
		quoted := make([]string, len(s.Values))
		for i, v := range s.Values {
			quoted[i] = strconv.Quote(v)
		}
		text := strings.Join(quoted, ", ")
		switch s.Name {
		case "port":
			text = strings.Join(s.Values, "")
		case "identity", "certificate", "known_hosts", "jump", "revoked":
			text = "[" + text + "]"
		}
		v := inventory.EffectiveValue{Name: "ssh." + s.Name, Value: text, Source: inventory.Range{File: s.Source.File, Line: s.Source.Line}}
		at := slices.IndexFunc(values, func(have inventory.EffectiveValue) bool { return have.Name == v.Name })
		if at >= 0 {
			values[at] = v
			continue
		}
		last := 0
		for i, have := range values {
			if strings.HasPrefix(have.Name, "ssh.") {
				last = i + 1
			}
		}
		values = slices.Insert(values, last, v)
	}
	return values, nil
}

// loadPasswords asks for the passwords on the way to a host, before the
// connection: its deadlines do not wait for a person.
func loadPasswords(ctx context.Context, host string, e remote.Endpoint) error {
	for _, p := range []struct {
		password *remote.Password
		what     string
	}{{e.Password, "the password of the login"}, {e.SudoPassword, "sudo's password"}} {
		if p.password == nil {
			continue
		}
		if err := p.password.Load(ctx); err != nil {
			return &remote.Error{Class: remote.ClassConfiguration, Host: host, Op: "asking for " + p.what, Err: err}
		}
	}
	for _, j := range e.Jump {
		if err := loadPasswords(ctx, host, j); err != nil {
			return err
		}
	}
	return nil
}
