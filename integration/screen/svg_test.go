package screen

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestSVG(t *testing.T) {
	svg, err := SVG("$ \x1b[1mvirtrust plan\x1b[0m\r\n  \x1b[32m+\x1b[0m a <b> & c\r\n\r\n\x1b[1;31mproblem\x1b[0m\x1b[K\r\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`<tspan class="b">virtrust plan</tspan>`, `<tspan class="g">+</tspan> a &lt;b&gt; &amp; c`, `<tspan class="b r">problem</tspan>`, `height="104"`} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"\x1b[2Ax", "a\rb", "\x07"} {
		if _, err := SVG(bad); err == nil {
			t.Errorf("%q was drawn", bad)
		}
	}
}

func TestClip(t *testing.T) {
	if got := Clip("a\nb\nc\nd\ne\n", 2, 1); got != "a\nb\n\x1b[2m  [2 lines]\x1b[0m\ne" {
		t.Errorf("%q", got)
	}
	if got := Clip("a\nb\n", 1, 1); got != "a\nb\n" {
		t.Errorf("%q", got)
	}
}
