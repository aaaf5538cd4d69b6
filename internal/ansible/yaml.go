package ansible

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// vaulted stands for a value that is encrypted.
const vaulted = "\x00vault"

// yaml reads groups of groups: each may have hosts, vars and children.
func (r *reader) yaml(text string) error {
	root, err := document(text)
	if err != nil || root == nil {
		return err
	}
	if root.Kind != yaml.MappingNode {
		return errors.New("a mapping of groups is expected")
	}
	for _, p := range pairs(root, 0) {
		switch p.key {
		case "plugin":
			return errors.New("this configures an inventory plugin, and nothing is run here: save what it says with ansible-inventory --list --yaml --output hosts.yml")
		case "_meta":
			return errors.New("this is the output of ansible-inventory --list: make it with --yaml")
		}
		if err := r.yamlGroup(p.key, p.value, 0); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) yamlGroup(name string, n *yaml.Node, depth int) error {
	if r.read++; depth > maxDepth || r.read > maxGroups {
		return errors.New("groups are nested too deeply, or are too many")
	}
	g := r.group(name)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: group %s is not a mapping with hosts, vars or children", n.Line, name)
	}
	for _, p := range pairs(n, 0) {
		switch p.key {
		case "hosts":
			if err := r.yamlHosts(g, p.value); err != nil {
				return err
			}
		case "vars":
			flatten(p.value, g.vars)
		case "children":
			if isNull(p.value) {
				continue
			}
			if p.value.Kind != yaml.MappingNode {
				return fmt.Errorf("line %d: the children of group %s are not a mapping", p.value.Line, name)
			}
			for _, c := range pairs(p.value, 0) {
				g.child(c.key)
				if err := r.yamlGroup(c.key, c.value, depth+1); err != nil {
					return err
				}
			}
		default:
			r.note("group %s: %q is none of hosts, vars and children, and was not read", name, p.key)
		}
	}
	return nil
}

func (r *reader) yamlHosts(g *group, n *yaml.Node) error {
	if isNull(n) {
		return nil
	}
	if n.Kind == yaml.ScalarNode {
		return r.add(g, n.Value, nil)
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: the hosts of group %s are not a mapping: write a colon after each", n.Line, g.name)
	}
	for _, p := range pairs(n, 0) {
		values := vars{}
		flatten(p.value, values)
		if err := r.add(g, p.key, values); err != nil {
			return fmt.Errorf("line %d: %w", p.value.Line, err)
		}
	}
	return nil
}

// yamlVars adds the variables of a file of group_vars or host_vars.
func yamlVars(text string, out vars) error {
	root, err := document(text)
	if err != nil || root == nil {
		return err
	}
	if root.Kind != yaml.MappingNode {
		return errors.New("a mapping of variables is expected")
	}
	flatten(root, out)
	return nil
}

// document is the first document of a text; nil when it is empty.
func document(text string) (*yaml.Node, error) {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		return nil, err
	}
	if n.Kind != yaml.DocumentNode || len(n.Content) == 0 || isNull(n.Content[0]) {
		return nil, nil
	}
	return n.Content[0], nil
}

type pair struct {
	key   string
	value *yaml.Node
}

// pairs lists a mapping in its order. Aliases are followed, merged mappings
// come first and are replaced by what the mapping says itself.
func pairs(n *yaml.Node, depth int) []pair {
	if n = follow(n); n == nil || n.Kind != yaml.MappingNode || depth > maxMerges {
		return nil
	}
	var out []pair
	at := map[string]int{}
	add := func(p pair) {
		if i, ok := at[p.key]; ok {
			out[i].value = p.value
			return
		}
		at[p.key] = len(out)
		out = append(out, p)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k, v := n.Content[i], follow(n.Content[i+1]); k.Tag == "!!merge" {
			from := []*yaml.Node{v}
			if v.Kind == yaml.SequenceNode {
				from = v.Content
			}
			for _, f := range from {
				for _, p := range pairs(f, depth+1) {
					if _, set := at[p.key]; !set {
						add(p)
					}
				}
			}
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k := follow(n.Content[i]); k != nil && k.Kind == yaml.ScalarNode && k.Tag != "!!merge" {
			add(pair{k.Value, follow(n.Content[i+1])})
		}
	}
	return out
}

// follow goes from an alias to what it stands for.
func follow(n *yaml.Node) *yaml.Node {
	for range 8 {
		if n == nil || n.Kind != yaml.AliasNode {
			break
		}
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	n = follow(n)
	return n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

// flatten takes the variables of a mapping whose values are single ones; of
// others only their names count.
func flatten(n *yaml.Node, out vars) {
	for _, p := range pairs(n, 0) {
		switch {
		case p.value == nil || p.value.Kind != yaml.ScalarNode || isNull(p.value):
			out[p.key] = ""
		case p.value.Tag == "!vault":
			out[p.key] = vaulted
		default:
			out[p.key] = p.value.Value
		}
	}
}
