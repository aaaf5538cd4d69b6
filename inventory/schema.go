package inventory

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// blockSpec describes one kind of block. It is the only place that lists what
// may be written where.
type blockSpec struct {
	kind   string
	labels []string
	attrs  []string // a name that ends in "!" is required
	blocks []*blockSpec
	many   bool // may stand more than once with the same labels: contents are independent
	any    bool // any attribute, no blocks
}

func (s *blockSpec) schema() *hcl.BodySchema {
	out := &hcl.BodySchema{}
	for _, a := range s.attrs {
		name, required := strings.CutSuffix(a, "!")
		out.Attributes = append(out.Attributes, hcl.AttributeSchema{Name: name, Required: required})
	}
	for _, b := range s.blocks {
		out.Blocks = append(out.Blocks, hcl.BlockHeaderSchema{Type: b.kind, LabelNames: b.labels})
	}
	return out
}

func (s *blockSpec) block(kind string) *blockSpec {
	for _, b := range s.blocks {
		if b.kind == kind {
			return b
		}
	}
	return nil
}

var (
	sshSpec = &blockSpec{kind: "ssh",
		attrs: []string{"user", "password", "become", "become_password", "known_hosts", "port", "identity", "jump", "config"}}
	nicSpec = &blockSpec{kind: "nic", labels: []string{"network"},
		attrs: []string{"network", "fqdn", "addresses"}}
	hostSpec = &blockSpec{kind: "host", labels: []string{"name"},
		attrs:  []string{"for_each", "address!", "cluster", "policy", "migration", "labels", "names", "host_key", "away", "managed"},
		blocks: []*blockSpec{nicSpec, sshSpec}}
	clusterSpec = &blockSpec{kind: "cluster", labels: []string{"name"},
		attrs:  []string{"for_each", "policy", "migration", "managed"},
		blocks: []*blockSpec{sshSpec}}
	networkSpec = &blockSpec{kind: "network", labels: []string{"name"},
		attrs: []string{"for_each", "cidrs!", "discover"}}
	keySpec       = &blockSpec{kind: "key", attrs: []string{"algorithm"}}
	authoritySpec = &blockSpec{kind: "authority", labels: []string{"name"},
		attrs:  []string{"kind", "organization", "passphrase_from", "lifetime", "key_directory", "per"},
		blocks: append([]*blockSpec{keySpec}, externalSpecs...)}
	certificateSpec = &blockSpec{kind: "certificate", labels: []string{"name"},
		attrs: []string{"enabled", "authority", "usages", "networks", "scope", "lifetime", "renew_before", "key_usage", "needed_for", "on_replace"},
		blocks: []*blockSpec{keySpec, {kind: "install",
			attrs: []string{"directory", "cert", "key", "aliases", "owner", "group", "key_mode"}}}}
	trustSpec = &blockSpec{kind: "trust", labels: []string{"path"},
		attrs: []string{"enabled", "authorities", "format", "crl", "foreign", "needed_for"}}
	settingsSpec = &blockSpec{kind: "settings", labels: []string{"path"}, any: true}
	listenerSpec = &blockSpec{kind: "listener", labels: []string{"name"},
		attrs: []string{"enabled", "port", "mode", "verify"}}
	firewallSpec = &blockSpec{kind: "firewall", attrs: []string{"enabled", "backend"},
		blocks: []*blockSpec{{kind: "allow", labels: []string{"name"},
			attrs: []string{"enabled", "port", "ports", "from"}}}}
	rolloutSpec = &blockSpec{kind: "rollout",
		attrs: []string{"canary", "batch", "restarts", "max_failures", "max_unreachable", "windows"}}
	windowSpec = &blockSpec{kind: "window", labels: []string{"name"},
		attrs: []string{"start!", "length!", "zone", "days"}}
	policySpec = &blockSpec{kind: "policy", labels: []string{"name"},
		attrs:  []string{"template", "extends", "authorities"},
		blocks: []*blockSpec{certificateSpec, trustSpec, settingsSpec, listenerSpec, firewallSpec, rolloutSpec}}
	variableSpec = &blockSpec{kind: "variable", labels: []string{"name"},
		attrs: []string{"type", "default", "description"}}

	relyingPartySpec = &blockSpec{kind: "relying_party", labels: []string{"name"},
		attrs: []string{"authorities!", "note"}}

	rootSpec = &blockSpec{blocks: append([]*blockSpec{
		hostSpec, clusterSpec, networkSpec, authoritySpec, policySpec, relyingPartySpec, sshSpec, variableSpec, windowSpec,
		{kind: "removed", attrs: []string{"host!", "revoke"}, many: true},
		{kind: "locals", any: true, many: true},
		{kind: "fleet", attrs: []string{"migration"}},
		{kind: "ledger", attrs: []string{"path"}},
	}, laterBlocks...)}
)
