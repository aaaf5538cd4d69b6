package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/virtrust/virtrust/internal/ansible"
	"github.com/virtrust/virtrust/internal/report"
	"github.com/virtrust/virtrust/inventory"
)

// askInit asks for what the command line did not say.
func (a *app) askInit(ctx context.Context, o *initFlags) error {
	a.sentences([]string{
		"A first configuration, for the directory " + a.dir + ". You see it before it is written, and no host is contacted. Ctrl-C ends.", "",
		"Hosts, each as NAME=ADDRESS, a name, an address, or a range such as kvm[1:4].example.com. An empty line ends the list.",
	})
	if err := a.askHosts(ctx, o); err != nil {
		return err
	}
	var err error
	if o.user == "" {
		a.note("")
		if o.user, err = a.askFor(ctx, "Login user", "root", inventory.CheckInitUser); err != nil {
			return err
		}
	}
	if o.Cluster == "" {
		a.note("\nHosts of one cluster migrate guests to each other.")
		if o.Cluster, err = a.askFor(ctx, "Cluster", "rack1", inventory.CheckInitCluster); err != nil {
			return err
		}
	}
	if o.mode == "" {
		a.sentences([]string{"", "Encrypted live migration: off; available, where TLS is asked for; or required, where a migration without TLS is refused. Begin with available."})
		mode, err := a.askFor(ctx, "Migration", "available", func(s string) error {
			if s != "off" && s != "available" && s != "required" {
				return fmt.Errorf("%q is none of off, available and required", s)
			}
			return nil
		})
		if err != nil {
			return err
		}
		o.Migration = inventory.Migration(mode)
	}
	if o.Organization == "" {
		a.note("")
		o.Organization, err = a.askFor(ctx, "Organization in certificates", "Example", inventory.CheckInitOrganization)
	}
	return err
}

// askHosts asks until an empty line.
func (a *app) askHosts(ctx context.Context, o *initFlags) error {
	names, addresses := map[string]bool{}, map[string]bool{}
	for {
		text, err := a.ask(ctx, fmt.Sprintf("  host %d: ", len(o.Hosts)+1))
		if err != nil {
			return err
		}
		if text == "" && len(o.Hosts) > 0 {
			return nil
		}
		for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
			list := []string{word}
			if strings.ContainsRune(word, '[') && !strings.ContainsRune(word, '=') {
				if list, err = ansible.Expand(word); err != nil {
					a.note("  %s", report.Safe(err.Error()))
					continue
				}
			}
			for _, one := range list {
				h, err := initHost(one)
				switch {
				case err != nil:
					a.note("  %s", report.Safe(err.Error()))
				case names[h.Name] || addresses[h.Address]:
					a.note("  %s is in the list already", report.Safe(one))
				default:
					names[h.Name], addresses[h.Address] = true, true
					o.Hosts = append(o.Hosts, h)
				}
			}
		}
	}
}

// askFor asks until the answer is fit. An empty one is the default.
func (a *app) askFor(ctx context.Context, what, otherwise string, check func(string) error) (string, error) {
	for {
		text, err := a.ask(ctx, fmt.Sprintf("%s [%s]: ", what, otherwise))
		if err != nil {
			return "", err
		}
		if text == "" {
			text = otherwise
		}
		if err = check(text); err == nil {
			return text, nil
		}
		a.note("  %s", report.Safe(err.Error()))
	}
}
