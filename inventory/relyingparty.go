package inventory

// decodeRelyingParties reads who outside the fleet verifies its certificates.
func (l *loader) decodeRelyingParties() {
	for _, n := range l.top.blocks {
		if n.spec != relyingPartySpec {
			continue
		}
		l.checkLabel(n)
		r := &reader{l: l, n: n, scope: ownScope}
		v := RelyingParty{Name: n.label(), Source: sourceRange(n.rng)}
		v.Note, _, _ = r.text("note", "")
		refs, _, _ := r.references("authorities", "authority")
		for _, a := range refs {
			v.Authorities = append(v.Authorities, a.name)
		}
		if len(v.Authorities) == 0 && !r.bad && n.attrs["authorities"] != nil {
			l.errorAt(n.attrs["authorities"].expr.Range(), "Relying party of nobody", "Name the authorities whose certificates it verifies: authorities = [authority.NAME].")
		}
		l.fleet.RelyingParties = append(l.fleet.RelyingParties, v)
	}
}
