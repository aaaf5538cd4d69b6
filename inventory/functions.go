package inventory

import (
	"path"
	"strings"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	ctyyaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions are what an expression may call. All are pure but file and
// fileexists, which see the configuration's directory and nothing else.
func (l *loader) functions() map[string]function.Function {
	out := map[string]function.Function{
		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc, "log": stdlib.LogFunc,
		"max": stdlib.MaxFunc, "min": stdlib.MinFunc, "parseint": stdlib.ParseIntFunc, "pow": stdlib.PowFunc, "signum": stdlib.SignumFunc,

		"chomp": stdlib.ChompFunc, "format": stdlib.FormatFunc, "formatlist": stdlib.FormatListFunc, "indent": stdlib.IndentFunc,
		"join": stdlib.JoinFunc, "lower": stdlib.LowerFunc, "regex": stdlib.RegexFunc, "regexall": stdlib.RegexAllFunc,
		"regexreplace": stdlib.RegexReplaceFunc, "replace": stdlib.ReplaceFunc, "split": stdlib.SplitFunc, "strlen": stdlib.StrlenFunc,
		"strrev": stdlib.ReverseFunc, "substr": stdlib.SubstrFunc, "title": stdlib.TitleFunc, "trim": stdlib.TrimFunc,
		"trimprefix": stdlib.TrimPrefixFunc, "trimspace": stdlib.TrimSpaceFunc, "trimsuffix": stdlib.TrimSuffixFunc, "upper": stdlib.UpperFunc,

		"chunklist": stdlib.ChunklistFunc, "coalesce": stdlib.CoalesceFunc, "coalescelist": stdlib.CoalesceListFunc,
		"compact": stdlib.CompactFunc, "concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc, "distinct": stdlib.DistinctFunc,
		"element": stdlib.ElementFunc, "flatten": stdlib.FlattenFunc, "index": stdlib.IndexFunc, "keys": stdlib.KeysFunc,
		"length": stdlib.LengthFunc, "lookup": stdlib.LookupFunc, "merge": stdlib.MergeFunc, "range": stdlib.RangeFunc,
		"reverse": stdlib.ReverseListFunc, "setintersection": stdlib.SetIntersectionFunc, "setproduct": stdlib.SetProductFunc,
		"setsubtract": stdlib.SetSubtractFunc, "setunion": stdlib.SetUnionFunc, "slice": stdlib.SliceFunc, "sort": stdlib.SortFunc,
		"values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,

		"tostring": stdlib.MakeToFunc(cty.String), "tonumber": stdlib.MakeToFunc(cty.Number), "tobool": stdlib.MakeToFunc(cty.Bool),
		"toset": collect(cty.Set(cty.DynamicPseudoType)), "tolist": collect(cty.List(cty.DynamicPseudoType)),
		"tomap": collect(cty.Map(cty.DynamicPseudoType)),

		"jsondecode": stdlib.JSONDecodeFunc, "jsonencode": stdlib.JSONEncodeFunc,
		"yamldecode": ctyyaml.YAMLDecodeFunc, "yamlencode": ctyyaml.YAMLEncodeFunc,

		"cidrhost": cidrHost, "cidrsubnet": cidrSubnet, "cidrcontains": cidrContains,
	}
	for name, f := range out {
		out[name] = bounded(name, f)
	}
	// These look at expressions, so they stay as they are.
	out["try"], out["can"] = tryfunc.TryFunc, tryfunc.CanFunc
	out["csvdecode"] = csvDecode
	out["file"], out["fileexists"] = l.fileFunc(), l.fileExistsFunc()
	return out
}

// pathParam takes the name of a file below the configuration's directory.
var pathParam = function.Parameter{Name: "path", Type: cty.String}

func (l *loader) fileFunc() function.Function {
	return function.New(&function.Spec{
		Description: "The text of a file below the configuration's directory.",
		Params:      []function.Parameter{pathParam},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := path.Clean(args[0].AsString())
			src, ok := l.src.read[name]
			if !ok {
				var err error
				if src, err = l.src.bytes(name); err != nil {
					return cty.NilVal, function.NewArgErrorf(0, "%s cannot be read: %w", name, err)
				}
				if d := checkText(src, name); d != nil {
					return cty.NilVal, function.NewArgErrorf(0, "%s, line %d: %s", name, d.Source.Start.Line, d.Detail)
				}
				l.src.read[name] = src
			}
			return cty.StringVal(strings.TrimPrefix(string(src), string(bom))).Mark(cell{file: name}), nil
		},
	})
}

func (l *loader) fileExistsFunc() function.Function {
	return function.New(&function.Spec{
		Description: "Whether there is a regular file below the configuration's directory.",
		Params:      []function.Parameter{pathParam},
		Type:        function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := path.Clean(args[0].AsString())
			info, err := l.src.root.Stat(name)
			exists := err == nil && info.Mode().IsRegular()
			l.src.exists[name] = exists
			return cty.BoolVal(exists), nil
		},
	})
}
