package conffile

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
)

// A Type is what libvirt's reader of a key accepts.
type Type int

// The types of keys. TypeBool is the integer 0 or 1, never true or yes.
// TypeStringOrList is a list of strings, or a string as a list of one. TypeSize is a
// number of bytes or the string "unlimited".
const (
	TypeString Type = iota + 1
	TypeBool
	TypeInt
	TypeUint
	TypeList
	TypeStringOrList
	TypeSize
)

// String says what to write for a value of the type.
func (t Type) String() string {
	switch t {
	case TypeString:
		return "a string"
	case TypeBool:
		return "a bool, written 0 or 1"
	case TypeInt:
		return "an integer"
	case TypeUint:
		return "an integer that is not negative"
	case TypeList:
		return "a list of strings"
	case TypeStringOrList:
		return "a string or a list of strings"
	case TypeSize:
		return `an integer or "unlimited"`
	}
	return "unknown"
}

// A Key is one setting of a file.
type Key struct {
	Name  string
	Type  Type
	Since string // the libvirt release that brought it, "" if old or not known
	Note  string // meaning or trap in one line, "" if the name says it all
	// OneOf are the only strings accepted, if there are any.
	OneOf []string
	// Min and Max bound an integer beyond its type; 0 for both means unbounded.
	Min, Max int64
}

// A Schema is the set of keys that one configuration file has.
type Schema struct {
	// Path of the file on a host.
	Path  string
	keys  []Key
	index map[string]int
	rules []rule
}

// ConfDir is where libvirt keeps its configuration.
const ConfDir = "/etc/libvirt"

// Known gives the schema of a file of ConfDir, by its full path.
func Known(file string) (*Schema, bool) {
	s, ok := schemas[path.Clean(file)]
	return s, ok
}

// KnownPaths gives the full paths that Known answers, sorted.
func KnownPaths() []string {
	var ps []string
	for p := range schemas {
		ps = append(ps, p)
	}
	slices.Sort(ps)
	return ps
}

// Keys gives the keys of the file, in the order of the file that libvirt ships.
func (s *Schema) Keys() []Key { return slices.Clone(s.keys) }

// Lookup finds a key by its exact name; libvirt's keys are case sensitive.
func (s *Schema) Lookup(key string) (Key, bool) {
	i, ok := s.index[key]
	if !ok {
		return Key{}, false
	}
	return s.keys[i], true
}

// Suggest gives the key whose name is nearest to a mistyped one, "" if none is near.
func (s *Schema) Suggest(key string) string {
	if len(key) > 64 {
		return "" // a host's file may have keys of any length, and distance is quadratic
	}
	key = strings.ReplaceAll(strings.ToLower(key), "-", "_")
	best, bestDist := "", min(3, 1+len(key)/5)+1
	for _, k := range s.keys {
		if d := distance(key, k.Name); d < bestDist {
			best, bestDist = k.Name, d
		}
	}
	return best
}

// Check tells whether libvirt would accept v for key. It errs for a key that the
// file does not have (libvirt ignores such a key in silence), for another type
// and for a value outside of what libvirt allows (its daemon would not start).
func (s *Schema) Check(key string, v Value) error {
	k, ok := s.Lookup(key)
	if !ok {
		return s.unknown(key)
	}
	if err := k.accepts(v); err != nil {
		return fmt.Errorf("%s in %s: %w", key, s.Path, err)
	}
	return nil
}

func (s *Schema) unknown(key string) error {
	if near := s.Suggest(key); near != "" {
		return fmt.Errorf("%s has no key %.64s, libvirt would ignore it in silence: did you mean %s?", s.Path, key, near)
	}
	for _, other := range []string{"libvirtd.conf", "virtproxyd.conf", "qemu.conf", "network.conf", "secret.conf"} {
		p := path.Join(ConfDir, other)
		if _, ok := schemas[p].Lookup(key); ok {
			return fmt.Errorf("%s has no key %.64s, libvirt would ignore it in silence: it belongs into %s", s.Path, key, p)
		}
	}
	return fmt.Errorf("%s has no key %.64s, libvirt would ignore it in silence", s.Path, key)
}

func (k Key) accepts(v Value) error {
	str, isStr := v.Str()
	n, isInt := v.Int()
	_, isList := v.Strings()
	ok := false
	switch k.Type {
	case TypeString:
		ok = isStr
	case TypeBool:
		ok = isInt && !v.minus && (n == 0 || n == 1)
	case TypeInt:
		ok = isInt && n >= math.MinInt32 && n <= math.MaxInt32
	case TypeUint:
		ok = isInt && !v.minus && n <= math.MaxUint32
	case TypeList:
		ok = isList
	case TypeStringOrList:
		ok = isList || isStr
	case TypeSize:
		ok = isInt && !v.minus || str == "unlimited"
	}
	switch {
	case !ok && strings.HasSuffix(k.Name, "_password"):
		return fmt.Errorf("is %s", k.Type) // and what it holds is nobody's business
	case !ok && isInt && k.Type == TypeString:
		return fmt.Errorf("is %s, not an integer: write %s", k.Type, String(v.String()))
	case !ok && isStr && k.Type == TypeList:
		return fmt.Errorf("is %s: write %s", k.Type, List(str))
	case !ok:
		return fmt.Errorf("is %s, not %s", k.Type, v)
	case isInt && (k.Min != 0 || k.Max != 0) && (n < k.Min || k.Max != 0 && n > k.Max):
		if k.Max == 0 {
			return fmt.Errorf("is at least %d, not %d", k.Min, n)
		}
		return fmt.Errorf("is from %d to %d, not %d", k.Min, k.Max, n)
	case isStr && k.OneOf != nil && !slices.Contains(k.OneOf, str):
		return fmt.Errorf("is one of %s, not %s", strings.Join(k.OneOf, ", "), v)
	}
	return nil
}

// distance is the optimal string alignment distance: insertions, deletions,
// substitutions and swaps of neighbours.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
