package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
)

// Format is the version of a saved plan's format. ReadPlan refuses others.
const Format = 1

// maxPlan bounds a saved plan in bytes: 20,000 hosts fit.
const maxPlan = 512 << 20

// Ops is a list of operations that knows its JSON: each is an object with
// its kind beside its fields.
type Ops []Op

var kinds = map[string]reflect.Type{}

func init() {
	for _, o := range []Op{MakeDir{}, WriteFile{}, Link{}, Remove{}, Enrol{}, SetUnit{}, Activate{}, AllowPort{}, ClosePort{}} {
		kinds[o.Kind()] = reflect.TypeOf(o)
	}
}

// MarshalJSON writes the operations with their kinds.
func (ops Ops) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, o := range ops {
		if i > 0 {
			b.WriteByte(',')
		}
		raw, err := json.Marshal(o)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, `{"kind":%q,`, o.Kind())
		b.Write(raw[1:])
	}
	b.WriteByte(']')
	return b.Bytes(), nil
}

// UnmarshalJSON reads operations; an unknown kind or field is an error.
func (ops *Ops) UnmarshalJSON(b []byte) error {
	var raws []json.RawMessage
	if err := json.Unmarshal(b, &raws); err != nil {
		return err
	}
	*ops = make(Ops, 0, len(raws))
	for _, raw := range raws {
		var head struct {
			Kind string `json:"kind"`
		}
		if err := json.Unmarshal(raw, &head); err != nil {
			return err
		}
		typ, ok := kinds[head.Kind]
		if !ok {
			return fmt.Errorf("plan: unknown operation %q", head.Kind)
		}
		v := reflect.New(typ)
		// The kind is dropped so that unknown fields can be refused.
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(raw, &fields); err != nil {
			return err
		}
		delete(fields, "kind")
		rest, err := json.Marshal(fields)
		if err != nil {
			return err
		}
		d := json.NewDecoder(bytes.NewReader(rest))
		d.DisallowUnknownFields()
		if err := d.Decode(v.Interface()); err != nil {
			return fmt.Errorf("plan: operation %q: %w", head.Kind, err)
		}
		*ops = append(*ops, v.Elem().Interface().(Op))
	}
	return nil
}

// ReadPlan reads a saved plan. It refuses another format, unknown fields and
// anything after the plan.
func ReadPlan(r io.Reader) (*Plan, error) {
	d := json.NewDecoder(io.LimitReader(r, maxPlan))
	d.DisallowUnknownFields()
	var p Plan
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("not a saved plan: %w", err)
	}
	if p.Format != Format {
		return nil, fmt.Errorf("the plan has format %d, this program reads %d: make the plan again", p.Format, Format)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a saved plan: something follows it")
	}
	seen := map[string]bool{}
	for _, h := range p.Hosts {
		if seen[h.Host] {
			return nil, fmt.Errorf("not a saved plan: host %q stands in it twice", h.Host)
		}
		seen[h.Host] = true
	}
	return &p, nil
}

// Write saves the plan as JSON.
func (p *Plan) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(p)
}
