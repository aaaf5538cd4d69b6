package tasks

import (
	"crypto/x509"

	"github.com/virtrust/virtrust/internal/facts"
	"github.com/virtrust/virtrust/plan"
)

// Installed is a leaf that a host has under the public name of one of its
// certificates, whoever signed it.
type Installed struct {
	Certificate string // its name in policy
	Authority   string // that policy names
	Leaf        *x509.Certificate
}

// Leaves are the leaves that a host has, among the certificates of its tasks.
func Leaves(all []plan.Task, h *facts.Host) []Installed {
	var out []Installed
	for _, t := range all {
		if c, ok := t.(*certificate); ok {
			if leaf := c.leaf(h); leaf != nil {
				out = append(out, Installed{Certificate: c.cert.Name, Authority: c.authority.Name, Leaf: leaf})
			}
		}
	}
	return out
}
