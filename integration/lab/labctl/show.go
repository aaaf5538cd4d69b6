package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/virtrust/virtrust/integration/lab"
)

type labView struct {
	ID         string     `json:"id"`
	Owner      lab.Owner  `json:"owner"`
	Created    time.Time  `json:"created"`
	Namespace  string     `json:"namespace"`
	Identity   string     `json:"identity_file"`
	KnownHosts string     `json:"known_hosts"`
	Hosts      []hostView `json:"hosts"`
}

type hostView struct {
	Name        string       `json:"name"`
	FQDN        string       `json:"fqdn"`
	Running     bool         `json:"running"`
	Suite       string       `json:"suite"`
	Firewall    lab.Firewall `json:"firewall"`
	User        string       `json:"user"`
	Cheap       bool         `json:"cheap,omitempty"`
	Management4 string       `json:"management_ipv4"`
	Management6 string       `json:"management_ipv6"`
	Migration4  string       `json:"migration_ipv4"`
	Migration6  string       `json:"migration_ipv6"`
}

func view(l *lab.Lab) labView {
	v := labView{
		ID: l.ID, Owner: l.Owner(), Created: l.Created(), Namespace: l.Namespace(),
		Identity: l.IdentityFile(), KnownHosts: l.KnownHosts(), Hosts: []hostView{},
	}
	for _, h := range l.Hosts() {
		v.Hosts = append(v.Hosts, hostView{
			Name: h.Name, FQDN: h.FQDN, Running: h.Running(), Suite: h.Suite, Firewall: h.Firewall,
			User: h.Login.User(), Cheap: h.Cheap,
			Management4: h.Addresses.Management4.String(), Management6: h.Addresses.Management6.String(),
			Migration4: h.Addresses.Migration4.String(), Migration6: h.Addresses.Migration6.String(),
		})
	}
	return v
}

// show prints labs as text, or as JSON with one lab on a line.
func show(w io.Writer, asJSON bool, labs ...*lab.Lab) error {
	if asJSON {
		enc := json.NewEncoder(w)
		for _, l := range labs {
			if err := enc.Encode(view(l)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, l := range labs {
		v := view(l)
		fmt.Fprintf(w, "lab          %s (%s)\nnamespace    %s\nidentity     %s\nknown_hosts  %s\n", v.ID, v.Owner, v.Namespace, v.Identity, v.KnownHosts)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, h := range v.Hosts {
			power := "on"
			if !h.Running {
				power = "off"
			}
			fmt.Fprintf(t, "  %s@%s\t%s\t%s\t%s\tfirewall %s\t%s\n", h.User, h.FQDN, h.Management4, h.Migration4, h.Suite, h.Firewall, power)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}
