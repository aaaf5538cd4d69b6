package inventory

import "github.com/hashicorp/hcl/v2"

// What the language has words for and this version cannot carry out. It is
// parsed and checked, then refused. A version that learns one of these
// removes its line here.

// laterBlocks are top-level blocks that are known words and nothing more yet.
var laterBlocks = []*blockSpec{
	{kind: "vm", labels: []string{"name"}, any: true},
	{kind: "moved", any: true, many: true},
}

// laterValues are values of an attribute, by "attribute=value".
var laterValues = map[string]string{
	"template=cloudstack": `Use template = "libvirt".`,
	"template=ovirt":      `Use template = "libvirt".`,
	"kind=acme":           `Use kind = "exec" with a program that speaks ACME.`,
	"kind=pkcs11":         `Use kind = "exec" with a program that uses the token.`,
	"scope=nic":           `Use scope = "host", the default, or one certificate block for each network.`,
	"listener=spice":      `Remove the block.`,
}

// later refuses a value that this version cannot carry out and tells whether
// it did. What is the word to name in the summary.
func (l *loader) later(rng hcl.Range, attribute, value, what string) bool {
	detail, ok := laterValues[attribute+"="+value]
	if ok {
		l.errorAt(rng, what+" is not in this version", detail)
	}
	return ok
}

func (l *loader) refuseLaterBlocks(blocks []*node) {
	for _, n := range blocks {
		for _, s := range laterBlocks {
			if n.spec == s {
				l.errorAt(n.rng, `"`+s.kind+`" is not in this version`, "The word is reserved. Remove the block.")
			}
		}
	}
}
