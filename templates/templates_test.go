package templates_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/virtrust/virtrust/templates"
)

func TestEveryNameHasASource(t *testing.T) {
	names := templates.Names()
	if !slices.Contains(names, "libvirt") {
		t.Fatalf("Names() = %q, want libvirt among them", names)
	}
	for _, name := range names {
		src, ok := templates.Source(name)
		if !ok || !bytes.Contains(src, []byte("policy \""+name+"\"")) {
			t.Errorf("Source(%q) holds no policy of that name", name)
		}
	}
}

func TestSourceRefusesOtherNames(t *testing.T) {
	for _, name := range []string{"", "nonesuch", "../templates", "libvirt.hcl"} {
		if _, ok := templates.Source(name); ok {
			t.Errorf("Source(%q) found something", name)
		}
	}
}
