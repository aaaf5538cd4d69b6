package conffile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Kind is what a Value is.
type Kind int

// The kinds of values that the file format has. The zero Kind belongs to the zero
// Value, which no file can hold.
const (
	KindString Kind = iota + 1
	KindInt
	KindList
)

// String names the kind as a user would.
func (k Kind) String() string {
	switch k {
	case KindString:
		return "string"
	case KindInt:
		return "integer"
	case KindList:
		return "list"
	}
	return "no value"
}

// A Value is a string, an integer or a list. A list that was read from a file may
// hold any values; one that is made here holds strings. Values do not change.
type Value struct {
	kind  Kind
	str   string
	num   int64
	minus bool // "-0" is signed for libvirt and so not acceptable as a bool
	list  []Value
}

// String makes a string value.
func String(s string) Value { return Value{kind: KindString, str: s} }

// Int makes an integer value.
func Int(n int64) Value { return Value{kind: KindInt, num: n, minus: n < 0} }

// Bool makes the integer 1 or 0, which is how the format writes a bool.
func Bool(b bool) Value {
	if b {
		return Int(1)
	}
	return Int(0)
}

// List makes a list of strings; without arguments, the empty list.
func List(items ...string) Value {
	v := Value{kind: KindList}
	for _, s := range items {
		v.list = append(v.list, String(s))
	}
	return v
}

// Kind tells what v is.
func (v Value) Kind() Kind { return v.kind }

// Str gives the string; false if v is none.
func (v Value) Str() (string, bool) { return v.str, v.kind == KindString }

// Int gives the integer; false if v is none.
func (v Value) Int() (int64, bool) { return v.num, v.kind == KindInt }

// Strings gives the items of a list of strings; false if v is none, or holds
// anything but strings.
func (v Value) Strings() ([]string, bool) {
	if v.kind != KindList {
		return nil, false
	}
	items := make([]string, 0, len(v.list))
	for _, e := range v.list {
		if e.kind != KindString {
			return nil, false
		}
		items = append(items, e.str)
	}
	return items, true
}

// Equal tells whether libvirt reads v and w as the same value. Two zero Values are equal.
func (v Value) Equal(w Value) bool {
	return v.kind == w.kind && v.str == w.str && v.num == w.num && v.minus == w.minus &&
		slices.EqualFunc(v.list, w.list, Value.Equal)
}

// Syntax gives v as it is written into a file, always on one line. The format has no
// escapes: a string goes into "…", one with a double quote into '…', one with both
// into """…""". It is an error if v is the zero Value or holds a string with a NUL
// or a line break (libvirt could read that, but the tools that edit its files line
// by line could not), or with both quotes and one of ” at its end or three in a row.
func (v Value) Syntax() (string, error) {
	switch v.kind {
	case KindString:
		return quote(v.str)
	case KindInt:
		if v.minus && v.num == 0 {
			return "-0", nil
		}
		return strconv.FormatInt(v.num, 10), nil
	case KindList:
		if len(v.list) == 0 {
			return "[]", nil
		}
		items := make([]string, len(v.list))
		for i, e := range v.list {
			var err error
			if items[i], err = e.Syntax(); err != nil {
				return "", fmt.Errorf("item %d: %w", i+1, err)
			}
		}
		return "[ " + strings.Join(items, ", ") + " ]", nil
	}
	return "", errors.New("there is no value")
}

// String gives v in the syntax of the file, for people to read. What cannot be
// written on one line (see Syntax) is shown with Go's escapes instead.
func (v Value) String() string {
	if s, err := v.Syntax(); err == nil {
		return s
	}
	switch v.kind {
	case KindString:
		return strconv.Quote(v.str)
	case KindList:
		items := make([]string, len(v.list))
		for i, e := range v.list {
			items[i] = e.String()
		}
		return "[ " + strings.Join(items, ", ") + " ]"
	}
	return "(no value)"
}

// quote errs without the string, which may be a password.
func quote(s string) (string, error) {
	switch {
	case strings.ContainsRune(s, 0):
		return "", errors.New("the string has a NUL byte, which the file format cannot hold")
	case strings.ContainsAny(s, "\r\n"):
		return "", errors.New("the string has a line break: write it on one line")
	case !strings.Contains(s, `"`):
		return `"` + s + `"`, nil
	case !strings.Contains(s, `'`):
		return `'` + s + `'`, nil
	case !strings.Contains(s, `"""`) && !strings.HasSuffix(s, `"`):
		return `"""` + s + `"""`, nil
	}
	return "", errors.New("the string mixes both quotes in a way that the file format, which has no escapes, cannot hold")
}
