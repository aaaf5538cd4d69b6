package conffile

import (
	"bytes"
	"slices"
	"testing"
)

var seeds = []string{
	"", "a=1", "# c\r\n#a = 0\r\n\r\nb = \"x\"\r\n", "a=1;a=2;b='x' # c\na = [\n\"x\", 'y',\n]\n",
	"#a = [\n#  1\n#]\nb=\"\"\"x\ny\"\"\"\r#\ra=-0", "\xef\xbb\xbfa=1", "a=[[],[+1,]];", "a=\"\xff\"\n\t\n", "# a = 1\na=\"\"\"\"\"\"\n",
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := Parse(src)
		if err != nil {
			return
		}
		if !bytes.Equal(file.Bytes(), src) {
			t.Fatalf("Bytes = %q, want %q", file.Bytes(), src)
		}
		for _, key := range file.Keys() {
			v, ok := file.Get(key)
			if !ok || !v.Equal(file.Assignments(key)[0].Value) {
				t.Fatalf("Get(%s) = %v, %v", key, v, ok)
			}
			syntax, err := v.Syntax()
			if err != nil {
				continue
			}
			again, err := Parse([]byte(key + " = " + syntax + "\n"))
			if err != nil {
				t.Fatalf("%s does not parse: %v", syntax, err)
			}
			if w, _ := again.Get(key); !w.Equal(v) {
				t.Fatalf("%s reads as %v", syntax, w)
			}
		}
		for _, path := range KnownPaths() {
			s, _ := Known(path)
			s.Lint(file)
		}
	})
}

func FuzzSet(f *testing.F) {
	for i, s := range seeds {
		f.Add([]byte(s), "a", uint8(i), int64(i), "x\x00y")
	}
	f.Fuzz(func(t *testing.T, src []byte, key string, kind uint8, n int64, s string) {
		file, err := Parse(src)
		if err != nil {
			return
		}
		var v Value
		switch kind % 3 {
		case 0:
			v = Int(n)
		case 1:
			v = String(s)
		case 2:
			v = List()
			for _, item := range bytes.Split([]byte(s), []byte{','}) {
				v.list = append(v.list, String(string(item)))
			}
		}
		before := mustParse(t, string(src))
		if err := file.Set(key, v); err != nil {
			if !bytes.Equal(file.Bytes(), src) {
				t.Fatalf("an error, but changed to %q", file.Bytes())
			}
			return
		}
		after := file.Bytes()
		if got, _ := file.Get(key); !got.Equal(v) {
			t.Fatalf("Get = %v, want %v", got, v)
		}
		if old, ok := before.Get(key); ok && old.Equal(v) != bytes.Equal(after, src) {
			t.Fatalf("value was %v, is %v: %q", old, v, after)
		}
		if !bytes.Equal(after, src) && len(file.Assignments(key)) != 1 {
			t.Fatalf("assigned %d times: %q", len(file.Assignments(key)), after)
		}
		others(t, key, before, file)
		untouched(t, key, before, after)
		if err := file.Set(key, v); err != nil || !bytes.Equal(file.Bytes(), after) {
			t.Fatalf("not idempotent: %v, %q", err, file.Bytes())
		}
		if err := file.Unset(key); err != nil {
			t.Fatal(err)
		}
		if _, ok := file.Get(key); ok {
			t.Fatalf("still set: %q", file.Bytes())
		}
		others(t, key, before, file)
	})
}

// others fails if an assignment of a key other than key is not as it was.
func others(t *testing.T, key string, before, after *File) {
	t.Helper()
	not := func(f *File) []string {
		return slices.DeleteFunc(f.Keys(), func(k string) bool { return k == key })
	}
	if x, y := not(before), not(after); !slices.Equal(x, y) {
		t.Fatalf("keys were %q, are %q", x, y)
	}
	for _, k := range not(before) {
		x, y := before.Assignments(k), after.Assignments(k)
		if !slices.EqualFunc(x, y, func(x, y Assignment) bool { return x.Value.Equal(y.Value) }) {
			t.Fatalf("%s was %v, is %v", k, x, y)
		}
	}
}

// untouched fails if a line that no assignment of key stands on is not as it was.
func untouched(t *testing.T, key string, before *File, after []byte) {
	t.Helper()
	touched := map[int]bool{}
	for _, a := range before.Assignments(key) {
		for l := a.Line; l <= a.EndLine; l++ {
			touched[l] = true
		}
	}
	rest := after
	for i, line := range bytes.SplitAfter(before.src, []byte{'\n'}) {
		if touched[i+1] {
			continue
		}
		// The line after which one is inserted gets a line ending if it has none, and
		// where lone CRs end lines, the insertion may stand inside of what is a line here.
		if bytes.ContainsRune(line, '\r') {
			continue
		}
		at := bytes.Index(rest, line)
		if at < 0 {
			t.Fatalf("line %d, %q, is gone: %q", i+1, line, after)
		}
		rest = rest[at+len(line):]
	}
}
