package inventory

import (
	"net/netip"
	"strconv"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/gocty"
)

var prefixParam = function.Parameter{Name: "prefix", Type: cty.String}

func prefixArg(v cty.Value) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(v.AsString())
	if err != nil {
		return p, function.NewArgErrorf(0, "%q is no range of addresses in CIDR notation", v.AsString())
	}
	return p.Masked(), nil
}

// cidrHost gives the nth address of a range; a negative number counts from
// its end.
var cidrHost = function.New(&function.Spec{
	Description: "The address with a number inside a range.",
	Params:      []function.Parameter{prefixParam, {Name: "number", Type: cty.Number}},
	Type:        function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := prefixArg(args[0])
		if err != nil {
			return cty.NilVal, err
		}
		var n int64
		if gocty.FromCtyValue(args[1], &n) != nil {
			return cty.NilVal, function.NewArgErrorf(1, "the number must be whole")
		}
		a, ok := offset(p, p.Addr().BitLen(), n)
		if !ok {
			return cty.NilVal, function.NewArgErrorf(1, "%s has no address number %d", p, n)
		}
		return cty.StringVal(a.String()), nil
	},
})

// cidrSubnet divides a range and gives the nth part.
var cidrSubnet = function.New(&function.Spec{
	Description: "The part with a number of a range that is divided by further bits.",
	Params:      []function.Parameter{prefixParam, {Name: "bits", Type: cty.Number}, {Name: "number", Type: cty.Number}},
	Type:        function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := prefixArg(args[0])
		if err != nil {
			return cty.NilVal, err
		}
		var bits int
		var n int64
		if gocty.FromCtyValue(args[1], &bits) != nil || bits < 0 || p.Bits()+bits > p.Addr().BitLen() {
			return cty.NilVal, function.NewArgErrorf(1, "%s cannot be divided by so many bits", p)
		}
		if gocty.FromCtyValue(args[2], &n) != nil || n < 0 {
			return cty.NilVal, function.NewArgErrorf(2, "the number must be whole and not negative")
		}
		a, ok := offset(p, p.Bits()+bits, n)
		if !ok {
			return cty.NilVal, function.NewArgErrorf(2, "%s has no part number %d", p, n)
		}
		return cty.StringVal(netip.PrefixFrom(a, p.Bits()+bits).String()), nil
	},
})

var cidrContains = function.New(&function.Spec{
	Description: "Whether an address or a range lies inside a range.",
	Params:      []function.Parameter{prefixParam, {Name: "address", Type: cty.String}},
	Type:        function.StaticReturnType(cty.Bool),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := prefixArg(args[0])
		if err != nil {
			return cty.NilVal, err
		}
		s := args[1].AsString()
		if inner, err := netip.ParsePrefix(s); err == nil {
			return cty.BoolVal(inner.Bits() >= p.Bits() && p.Contains(inner.Addr())), nil
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(1, "%s is neither an address nor a range", strconv.Quote(s))
		}
		return cty.BoolVal(p.Contains(a)), nil
	},
})

// offset writes a number into the bits of a range between its length and
// upTo. It is false when the number does not fit.
func offset(p netip.Prefix, upTo int, n int64) (netip.Addr, bool) {
	raw := p.Addr().AsSlice()
	bits := upTo - p.Bits()
	if n < 0 {
		// Counted from the end: all bits set is -1.
		if bits < 63 && -n > int64(1)<<bits {
			return netip.Addr{}, false
		}
	} else if bits < 63 && n >= int64(1)<<bits {
		return netip.Addr{}, false
	}
	for i := range bits {
		bit := upTo - 1 - i
		set := n < 0
		if i < 64 {
			set = n>>min(i, 63)&1 == 1
		}
		if set {
			raw[bit/8] |= 1 << (7 - bit%8)
		}
	}
	a, _ := netip.AddrFromSlice(raw)
	return a, true
}
