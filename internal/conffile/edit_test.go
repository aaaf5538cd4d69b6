package conffile

import (
	"strings"
	"testing"
)

func TestSet(t *testing.T) {
	tests := map[string]struct {
		src  string
		key  string
		v    Value
		want string
	}{
		"empty file":              {"", "a", Int(1), "a = 1\n"},
		"in place":                {"x=1\n  listen_tls=0\t # why\ny=2", "listen_tls", Int(1), "x=1\n  listen_tls=1\t # why\ny=2"},
		"already so":              {"a  =  [ 'x',\n\"y\" ] # c\n", "a", List("x", "y"), "a  =  [ 'x',\n\"y\" ] # c\n"},
		"already so, duplicate":   {"a=1\na=2\n", "a", Int(1), "a=1\na=2\n"},
		"list to one line":        {"a = [\n  \"x\",\n]\nb=1\n", "a", List("y", "z"), "a = [ \"y\", \"z\" ]\nb=1\n"},
		"other type":              {"tls_port=16514#c\n", "tls_port", String("16514"), "tls_port=\"16514\"#c\n"},
		"later duplicates":        {"a=1\nb=1\n  a=2 # c\r\na=3", "a", Int(9), "a=9\nb=1\n#  a=2 # c\r\n#a=3"},
		"duplicate over lines":    {"a=1\na = [\r\n 1,\r\n\r\n2]\r\nb=1\n", "a", Int(9), "a=9\n#a = [\r\n# 1,\r\n#\r\n#2]\r\nb=1\n"},
		"duplicates on one line":  {"a=1;a=2; b=3\n", "a", Int(9), "a=9;\n#a=2; \nb=3\n"},
		"duplicate before remark": {"b=1\na=1\na=2; # c\n", "a", Int(9), "b=1\na=9\n#a=2; # c\n"},
		"list, then duplicate":    {"b = [\n1 ]; a=1; a=2\n", "a", Int(9), "b = [\n1 ]; a=9; \n#a=2\n"},
		"after the example":       {"# why\n#a = 0\n\n#b = 1\n", "a", Int(1), "# why\n#a = 0\na = 1\n\n#b = 1\n"},
		"after a spaced example":  {"# a = 0\nb=1\n", "a", Int(1), "# a = 0\na = 1\nb=1\n"},
		"example, not prose":      {"#       a = 1 is prose\n# a = 2\n#a = 3\nb=1\n", "a", Int(1), "#       a = 1 is prose\n# a = 2\n#a = 3\na = 1\nb=1\n"},
		"example over lines":      {"#nvram = [\n#   \"x\",\n#   \"y\"\n#]\n\nb=1\n", "nvram", List("z"), "#nvram = [\n#   \"x\",\n#   \"y\"\n#]\nnvram = [ \"z\" ]\n\nb=1\n"},
		"example never closed":    {"#nvram = [\n#   \"x\",\n\n#b = [ 1 ]\n", "nvram", List("z"), "#nvram = [\nnvram = [ \"z\" ]\n#   \"x\",\n\n#b = [ 1 ]\n"},
		"example, CRLF":           {"#a = 0\r\nb=1\n", "a", Int(1), "#a = 0\r\na = 1\r\nb=1\n"},
		"example at the end":      {"b=1\r\n#a = 0", "a", Int(1), "b=1\r\n#a = 0\r\na = 1\r\n"},
		"at the end":              {"b=1\n#ab = 0\n", "a", Int(1), "b=1\n#ab = 0\na = 1\n"},
		"at the end, no newline":  {"c=1\r\nb=1", "a", Int(1), "c=1\r\nb=1\r\na = 1\r\n"},
		"one line, no newline":    {"b=1", "a", Int(1), "b=1\na = 1\n"},
		"longer name":             {"ab=1\n", "a", Int(1), "ab=1\na = 1\n"},
		"Latin-1 kept":            {"# \xe4\na=1 # \xff\n", "a", Int(2), "# \xe4\na=2 # \xff\n"},
		"minus zero":              {"a=-0\n", "a", Bool(false), "a=0\n"},
		"quotes":                  {"a=1\n", "a", String(`say "x"`), "a='say \"x\"'\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := mustParse(t, tt.src)
			if err := f.Set(tt.key, tt.v); err != nil {
				t.Fatal(err)
			}
			if got := string(f.Bytes()); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if v, ok := f.Get(tt.key); !ok || !v.Equal(tt.v) {
				t.Errorf("Get = %v, %v; want %v", v, ok, tt.v)
			}
		})
	}
}

func TestSetRefuses(t *testing.T) {
	const src = "a=1\nb=\"\"\"x\ny\"\"\"\n"
	tests := map[string]struct {
		key string
		v   Value
	}{
		"no key":       {"", Int(1)},
		"injection":    {"a = 1\nb", Int(1)},
		"digit first":  {"1a", Int(1)},
		"no value":     {"a", Value{}},
		"line break":   {"a", String("x\ny")},
		"CR":           {"a", List("x", "y\rz")},
		"NUL":          {"a", String("x\x00")},
		"both quotes":  {"a", String(`'"`)},
		"three quotes": {"a", String(`'"""x`)},
		"vdsm's words": {"a", String("made by vdsm")},
		"too large":    {"a", String(strings.Repeat("x", MaxSize))},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := mustParse(t, src)
			if err := f.Set(tt.key, tt.v); err == nil {
				t.Error("no error")
			}
			if got := string(f.Bytes()); got != src {
				t.Errorf("changed to %q", got)
			}
		})
	}
	f := mustParse(t, src)
	if err := f.Set("b", String("x\ny")); err != nil || string(f.Bytes()) != src {
		t.Errorf("a value that is there already: %v, %q", err, f.Bytes())
	}
}

func TestUnset(t *testing.T) {
	tests := map[string]struct{ src, want string }{
		"none":       {"b=1\n#a=2\n", "b=1\n#a=2\n"},
		"all":        {"a=1\nb=1\n a='x' # c\n", "#a=1\nb=1\n# a='x' # c\n"},
		"shared":     {"a=1;a=2;b=1", "#a=1;\n\n#a=2;\nb=1"},
		"multi-line": {"a=\"\"\"x\ny\rz\"\"\"\n", "#a=\"\"\"x\n#y\r#z\"\"\"\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := mustParse(t, tt.src)
			if err := f.Unset("a"); err != nil {
				t.Fatal(err)
			}
			if got := string(f.Bytes()); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if _, ok := f.Get("a"); ok {
				t.Error("a is still set")
			}
		})
	}
}

func TestValue(t *testing.T) {
	if s, ok := String("x").Str(); !ok || s != "x" {
		t.Error("Str")
	}
	if n, ok := Bool(true).Int(); !ok || n != 1 {
		t.Error("Int")
	}
	if l, ok := List().Strings(); !ok || l == nil || len(l) != 0 {
		t.Error("Strings of the empty list")
	}
	if _, ok := String("x").Strings(); ok {
		t.Error("a string is a list")
	}
	for _, tt := range []struct {
		a, b Value
		want bool
	}{
		{Int(1), Int(1), true}, {Int(1), String("1"), false}, {List(), List(), true},
		{List("a"), List("a", "b"), false}, {List("a"), String("a"), false}, {List("a"), List("b"), false},
		{Value{}, Value{}, true}, {Value{}, Int(0), false},
	} {
		if got := tt.a.Equal(tt.b); got != tt.want {
			t.Errorf("%v equal to %v = %v", tt.a, tt.b, got)
		}
	}
	if got := List("x", "a\nb").String(); got != `[ "x", "a\nb" ]` {
		t.Errorf("String = %s", got)
	}
}
