package inventory

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"

	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// digest identifies what the fleet was made of: files of the directory, the
// templates used, files that functions read or asked for, values of variables.
func (l *loader) digest() string {
	h := sha256.New()
	for _, name := range sortedKeys(l.src.files) {
		if !l.src.outside[name] {
			part(h, "file", name, l.src.files[name])
		}
	}
	for _, name := range sortedKeys(l.src.read) {
		part(h, "read", name, l.src.read[name])
	}
	for _, name := range sortedKeys(l.src.exists) {
		part(h, "exists", name, fmt.Append(nil, l.src.exists[name]))
	}
	for _, name := range sortedKeys(l.vars) {
		v, _ := l.vars[name].UnmarkDeep()
		text, err := ctyjson.Marshal(v, v.Type())
		if err != nil {
			text = []byte(err.Error())
		}
		part(h, "variable", name, text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// part writes lengths before contents, so that no two lists of parts give the
// same bytes.
func part(h hash.Hash, kind, name string, content []byte) {
	fmt.Fprintf(h, "%s %d %d\n%s%s", kind, len(name), len(content), name, content)
}
