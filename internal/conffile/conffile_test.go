package conffile

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func mustParse(t testing.TB, src string) *File {
	t.Helper()
	f, err := Parse([]byte(src))
	if err != nil {
		t.Fatalf("Parse(%q): %v", src, err)
	}
	return f
}

func TestParseAccepts(t *testing.T) {
	tests := map[string]struct {
		src  string
		want map[string]string // key to the syntax of its effective value
	}{
		"empty":               {"", nil},
		"comment":             {"# a", nil},
		"no final newline":    {"a=1", map[string]string{"a": "1"}},
		"spaces and tabs":     {"\t a \t=\t 'x' \t# c", map[string]string{"a": `"x"`}},
		"signs":               {"a=+2\nb=-1\nc=-0\n", map[string]string{"a": "2", "b": "-1", "c": "-0"}},
		"64 bits":             {"a=9223372036854775807\nb=-9223372036854775808\n", map[string]string{"a": "9223372036854775807", "b": "-9223372036854775808"}},
		"hash in string":      {`a="#"` + "\n", map[string]string{"a": `"#"`}},
		"quotes":              {`a='"'` + "\n" + `b="'"` + "\n", map[string]string{"a": `'"'`, "b": `"'"`}},
		"triple":              {`a="""x'y"z"""` + "\n", map[string]string{"a": `"""x'y"z"""`}},
		"triple, empty":       {`a=""""""` + "\n", map[string]string{"a": `""`}},
		"list over lines":     {"a = [\n \"x\" ,\r\n\t'y',\n]\nb=1\n", map[string]string{"a": `[ "x", "y" ]`, "b": "1"}},
		"empty list":          {"a=[ \n ]", map[string]string{"a": "[]"}},
		"nested list":         {"a=[[1],'x']", map[string]string{"a": `[ [ 1 ], "x" ]`}},
		"semicolons":          {"a=1; b=2 ;#c\nc=3;", map[string]string{"a": "1", "b": "2", "c": "3"}},
		"CRLF":                {"a=1\r\n\r\n# c\r\nb=2\r\n", map[string]string{"a": "1", "b": "2"}},
		"lone CR ends":        {"# c\rb=2", map[string]string{"b": "2"}},
		"first wins":          {"a=1\na=2\n", map[string]string{"a": "1"}},
		"case matters":        {"A=1\na=2\n", map[string]string{"A": "1", "a": "2"}},
		"Latin-1":             {"# \xe4\na=\"\xe4\"\n", map[string]string{"a": "\"\xe4\""}},
		"assignment over end": {"a=1\n  \n\t", map[string]string{"a": "1"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := mustParse(t, tt.src)
			if got := string(f.Bytes()); got != tt.src {
				t.Errorf("Bytes = %q, want %q", got, tt.src)
			}
			if got := len(f.Keys()); got != len(tt.want) {
				t.Errorf("Keys = %q, want %d", f.Keys(), len(tt.want))
			}
			for key, want := range tt.want {
				if v, ok := f.Get(key); !ok || v.String() != want {
					t.Errorf("Get(%s) = %v, %v; want %s", key, v, ok, want)
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	tests := map[string]struct {
		src  string
		line int
		want string
	}{
		"NUL":                   {"a=1\nb=\"\x00\"\n", 2, "NUL"},
		"BOM":                   {"\xef\xbb\xbfa=1\n", 1, "byte order mark"},
		"blank":                 {" \n\t\n", 3, "only blank lines"},
		"no assignment":         {"a=1\nlisten tls\n", 2, "expecting '='"},
		"ini section":           {"[main]\n", 1, "expecting a key"},
		"key with digit":        {"1a=2\n", 1, "expecting a key"},
		"key with dash":         {"a-b=2\n", 1, "expecting '='"},
		"no value":              {"a =\nb=1\n", 1, "expecting a value"},
		"bare word":             {"a = yes\n", 1, "expecting a value"},
		"no separator":          {"a = 1 b = 2\n", 1, "after the value"},
		"hex":                   {"a = 0x1\n", 1, "after the value"},
		"open string":           {"b=1\na = \"x\nc=\"\"\n", 2, "no closing quote"},
		"open triple":           {"a = \"\"\"x\ny\"\"\n", 1, "no closing quote"},
		"triple at the end":     {`a=""""""`, 1, "after the value"},
		"open list":             {"a = [ \"x\",\n", 2, "no closing ]"},
		"assignment after list": {"a = [ \"x\"\nb = 1\n", 2, "expecting ',' or ']'"},
		"comment in list":       {"a = [\n \"x\", # c\n \"y\" ]\n", 2, "comment inside a list"},
		"comment after item":    {"a = [\n \"x\" # c\n]\n", 2, "comment inside a list"},
		"two commas":            {"a = [ 1,, 2 ]\n", 1, "expecting a value"},
		"overflow":              {"a = 9223372036854775808\n", 1, "64 bits"},
		"sign":                  {"a = -\n", 1, "sign without"},
		"deep":                  {"a = " + strings.Repeat("[", 100000), 1, "too deep"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tt.src))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Line != tt.line || !strings.Contains(syntax.Problem, tt.want) {
				t.Errorf("error = %v, want line %d with %q", err, tt.line, tt.want)
			}
		})
	}
	if _, err := Parse(make([]byte, MaxSize+1)); err == nil {
		t.Error("a file over MaxSize was accepted")
	}
	if _, err := Parse([]byte("#" + strings.Repeat("x", MaxSize-1))); err != nil {
		t.Errorf("a file of MaxSize: %v", err)
	}
}

func TestAssignments(t *testing.T) {
	f := mustParse(t, "# c\nb = [\n 1\n]\na = 1; b = 2\n")
	want := []Assignment{{2, 4, Value{kind: KindList, list: []Value{Int(1)}}}, {5, 5, Int(2)}}
	got := f.Assignments("b")
	if !slices.EqualFunc(got, want, func(x, y Assignment) bool {
		return x.Line == y.Line && x.EndLine == y.EndLine && x.Value.Equal(y.Value)
	}) {
		t.Errorf("Assignments = %v, want %v", got, want)
	}
	if keys := f.Keys(); !slices.Equal(keys, []string{"b", "a"}) {
		t.Errorf("Keys = %q", keys)
	}
	if f.Assignments("c") != nil || f.Assignments("") != nil {
		t.Error("assignments of keys that are not there")
	}
}

func TestBytesIsACopy(t *testing.T) {
	src := []byte("a=1\n")
	f, err := Parse(src)
	if err != nil {
		t.Fatal(err)
	}
	src[2] = '2'
	f.Bytes()[2] = '3'
	if got := string(f.Bytes()); got != "a=1\n" {
		t.Errorf("Bytes = %q", got)
	}
}
