package firewall

import (
	"fmt"
	"slices"

	"github.com/virtrust/virtrust/internal/facts"
)

// File is a file of the owner's with the new content that keeps our rules.
type File struct {
	Path     string
	Old, New []byte
}

// Keep renders the files of nftables and iptables that make our openings last
// and let the closed ones go. firewalld and ufw write their own files: there it
// gives none. Nothing but our lines differs between Old and New.
func Keep(owner Owner, h *facts.Host, allow, closing []Opening) ([]File, error) {
	var files []File
	edit := func(paths []string, do func(string, []Opening, []Opening) (string, error), allow, closing []Opening) error {
		if len(allow)+len(closing) == 0 {
			return nil
		}
		path, old, ok := firstFile(h, paths)
		if !ok {
			return fmt.Errorf("%s is not there to keep the rules", paths[0])
		}
		text, err := do(string(old), allow, closing)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if text != string(old) {
			files = append(files, File{Path: path, Old: old, New: []byte(text)})
		}
		return nil
	}
	switch owner {
	case Nftables:
		return files, edit(nftablesFiles, editNft, allow, closing)
	case Iptables:
		for _, v4 := range []bool{true, false} {
			_, paths := family(v4)
			if err := edit(paths, editSaved, ofFamily(allow, v4), ofFamily(closing, v4)); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

func ofFamily(list []Opening, v4 bool) []Opening {
	return slices.Collect(func(yield func(Opening) bool) {
		for _, o := range list {
			if o.Source.Addr().Is4() == v4 && !yield(o) {
				return
			}
		}
	})
}
