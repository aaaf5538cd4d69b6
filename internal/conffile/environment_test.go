package conffile

import (
	"strings"
	"testing"
)

func TestEnvironment(t *testing.T) {
	for _, c := range []struct{ name, src, want, value string }{
		{"empty", "", "A=\"--listen\"\n", ""},
		{"comment only", "#A=\"--timeout 120\"\n", "#A=\"--timeout 120\"\nA=\"--listen\"\n", ""},
		{"no newline at the end", "# x", "# x\nA=\"--listen\"\n", ""},
		{"replaced", "B=1\nA=\"--timeout 120\"\n# end\n", "B=1\nA=\"--listen\"\n# end\n", "--timeout 120"},
		{"the last wins", "A=one\nA=two\n", "A=one\nA=\"--listen\"\n", "two"},
		{"single quotes", "A='a b'\n", "A=\"--listen\"\n", "a b"},
		{"spaces", " A = a b \n", "A=\"--listen\"\n", "a b"},
		{"joined lines", "A=a \\\n b\nC=1\n", "A=\"--listen\"\nC=1\n", "a \\\n b"},
		{"quote over lines", "A=\"a\nb\"\nC=1\n", "A=\"--listen\"\nC=1\n", "a\nb"},
		{"a comment ends with a backslash", "# x \\\nA=1\n", "# x \\\nA=\"--listen\"\n", "1"},
		{"other names", "AB=1\nXA=2\n; A=3\n", "AB=1\nXA=2\n; A=3\nA=\"--listen\"\n", ""},
		{"last line cut", "A=x", "A=\"--listen\"", "x"},
	} {
		e, err := ParseEnvironment([]byte(c.src))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(e.Bytes()); got != c.src {
			t.Errorf("%s: unchanged, it is %q", c.name, got)
		}
		v, plain, ok := e.Get("A")
		if v != c.value || ok != (c.value != "") || ok && plain == strings.ContainsAny(v, "\"'\\\n") {
			t.Errorf("%s: Get is %q, %v, %v", c.name, v, plain, ok)
		}
		if err := e.Set("A", "--listen"); err != nil {
			t.Fatal(err)
		}
		if got := string(e.Bytes()); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if v, plain, ok := e.Get("A"); v != "--listen" || !plain || !ok {
			t.Errorf("%s: then Get is %q, %v, %v", c.name, v, plain, ok)
		}
	}
	var e Environment
	for _, bad := range [][2]string{{"", "x"}, {"1A", "x"}, {"A B", "x"}, {"A", "x\ny"}, {"A", `"`}, {"A", `\`}} {
		if e.Set(bad[0], bad[1]) == nil {
			t.Errorf("Set(%q, %q) is taken", bad[0], bad[1])
		}
	}
	if _, err := ParseEnvironment([]byte("a\x00")); err == nil {
		t.Error("a NUL is taken")
	}
}

func FuzzEnvironment(f *testing.F) {
	for _, s := range []string{"", "A=1\n", "A=\"x\ny\"\n", "A=x\\\n", "=\n#\n;A=\\\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		e, err := ParseEnvironment(src)
		if err != nil {
			return
		}
		if string(e.Bytes()) != string(src) {
			t.Fatalf("%q became %q", src, e.Bytes())
		}
		if err := e.Set("VT_ARGS", "--listen"); err != nil {
			return
		}
		once := string(e.Bytes())
		again, err := ParseEnvironment([]byte(once))
		if err != nil {
			t.Fatal(err)
		}
		if v, plain, ok := again.Get("VT_ARGS"); v != "--listen" || !plain || !ok {
			t.Fatalf("%q became %q, which says %q", src, once, v)
		}
	})
}
