package inventory

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// csvDecode is stdlib's, and marks each cell with its file and line.
var csvDecode = function.New(&function.Spec{
	Description: "The rows of a CSV text as objects; the first line names the attributes.",
	Params:      []function.Parameter{{Name: "text", Type: cty.String, AllowMarked: true}},
	Type: func(args []cty.Value) (cty.Type, error) {
		v, err := readCSV(args[0])
		if err != nil {
			return cty.NilType, err
		}
		return v.Type(), nil
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return readCSV(args[0]) },
})

func readCSV(text cty.Value) (cty.Value, error) {
	text, marks := text.Unmark()
	file := ""
	for m := range marks {
		if c, ok := m.(cell); ok && c.line == 0 {
			file = c.file
		}
	}
	fail := func(line int, problem string) (cty.Value, error) {
		if file != "" {
			return cty.NilVal, function.NewArgErrorf(0, "%s, line %d: %s", file, line, problem)
		}
		return cty.NilVal, function.NewArgErrorf(0, "line %d of the text: %s", line, problem)
	}
	r := csv.NewReader(strings.NewReader(text.AsString()))
	header, err := r.Read()
	if err == io.EOF {
		return fail(1, "the first line must name the columns")
	}
	var rows []cty.Value
	attrs := map[string]cty.Type{}
	for _, h := range header {
		if _, twice := attrs[h]; twice || h == "" {
			return fail(1, fmt.Sprintf("the column %q is named twice or empty", h))
		}
		attrs[h] = cty.String
	}
	for err == nil {
		var row []string
		if row, err = r.Read(); err != nil {
			break
		}
		if len(rows) >= maxHosts {
			return fail(0, fmt.Sprintf("there are more than %d rows", maxHosts))
		}
		values := map[string]cty.Value{}
		for i, s := range row {
			line, column := r.FieldPos(i)
			v := cty.StringVal(s)
			if file != "" {
				v = v.Mark(cell{file, line, column})
			}
			values[header[i]] = v
		}
		rows = append(rows, cty.ObjectVal(values))
	}
	var parse *csv.ParseError
	switch {
	case errors.As(err, &parse):
		return fail(parse.Line, parse.Err.Error())
	case err != io.EOF:
		return cty.NilVal, err
	case len(rows) == 0:
		return cty.ListValEmpty(cty.Object(attrs)), nil
	}
	return cty.ListVal(rows), nil
}
