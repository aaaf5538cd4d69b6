package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/virtrust/virtrust/integration/lab"
)

// inLab makes a site of new lab hosts, or of those of a lab that exists, and says
// how to end it.
func (b *bench) inLab(ctx context.Context, name, policy, cluster string, specs []lab.HostSpec) (*site, func() error, error) {
	if b.lab != "" {
		l, err := lab.Open(b.lab, nil)
		if err != nil {
			return nil, nil, err
		}
		s, err := b.siteOf(ctx, l, name, policy, cluster)
		return s, func() error { return nil }, err
	}
	l, err := lab.New(ctx, lab.Config{})
	if err != nil {
		return nil, nil, err
	}
	if _, err := l.Start(ctx, specs...); err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	s, err := b.siteOf(ctx, l, name, policy, cluster)
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return s, l.Close, nil
}

// siteOf configures all hosts of a lab.
func (b *bench) siteOf(ctx context.Context, l *lab.Lab, name, policy, cluster string) (*site, error) {
	hosts := l.Hosts()
	s := &site{bench: b, dir: filepath.Join(b.dir, name), hosts: len(hosts), lab: l, prefix: l.Command}
	text := fmt.Sprintf("network \"management\" {\n  cidrs = [\"10.77.0.0/24\"]\n}\n\nssh {\n  known_hosts = %q\n  identity = [%q]\n}\n\ncluster \"rack1\" {\n  policy = policy.standard\n%s}\n", l.KnownHosts(), l.IdentityFile(), cluster)
	for _, h := range hosts {
		text += fmt.Sprintf("\nhost %q {\n  address = %q\n  cluster = cluster.rack1\n", h.Name, h.FQDN)
		if !h.Cheap {
			text += fmt.Sprintf("\n  nic \"management\" {\n    addresses = [%q]\n  }\n", h.Addresses.Management4)
		}
		text += "}\n"
	}
	if err := s.write(map[string]string{"inventory.hcl": text, "policy.hcl": policy}); err != nil {
		return nil, err
	}
	_, err := s.virtrust(ctx, "", nil, "ca", "init")
	return s, err
}

// compare measures a lab's site: everything, nothing, and certificates anew,
// beside what others take for the same hosts.
func (s *site) compare(ctx context.Context, renew string) error {
	l := s.lab
	var names, addresses []string
	for _, h := range l.Hosts() {
		names = append(names, "root@"+h.FQDN)
		addresses = append(addresses, h.Addresses.Management4.String()+":22")
	}
	ssh := func() (sample, error) {
		script := fmt.Sprintf("for h in %s; do ssh -F none -o UserKnownHostsFile=%s -i %s -o IdentitiesOnly=yes -o BatchMode=yes $h true & done; wait",
			strings.Join(names, " "), l.KnownHosts(), l.IdentityFile())
		return s.time(ctx, "`ssh host true`", "for h in HOSTS; do ssh $h true & done; wait", "", []int{0}, "bash", "-c", script)
	}
	bare := func() (sample, error) {
		return s.time(ctx, "a bare client", "speed fanout -run true", strings.Join(addresses, "\n"), []int{0},
			s.self, "fanout", "-identity", l.IdentityFile(), "-known-hosts", l.KnownHosts(), "-parallel", fmt.Sprint(s.hosts), "-run", "true")
	}
	everything, err := s.virtrust(ctx, "apply of everything", nil, "apply", "--yes")
	if err != nil {
		return err
	}
	still, err := median(s.repeat, ssh, bare, func() (sample, error) {
		r, err := s.virtrust(ctx, "plan with nothing to do", nil, "plan", "--detailed-exitcode")
		if err == nil && !strings.Contains(r.out, "Nothing to do") {
			err = fmt.Errorf("there was something to do:\n%s", r.out)
		}
		return r, err
	})
	if err != nil {
		return err
	}
	renewal, err := s.virtrust(ctx, "renewal of every certificate", nil, "apply", "--yes", "--replace", renew)
	if err != nil {
		return err
	}
	table(still[:2], slices.Concat(still[2:], []sample{everything, renewal}, still[:2]))
	return nil
}

// cheap measures hosts that have an sshd and files.
func (b *bench) cheap(ctx context.Context, n int) (err error) {
	s, end, err := b.inLab(ctx, "cheap", filesOnly, "", slices.Repeat([]lab.HostSpec{{Cheap: true}}, n))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	fmt.Printf("\n### %d hosts that have an sshd, files only\n", s.hosts)
	return s.compare(ctx, "certificate.libvirt-server,certificate.libvirt-client")
}
