// Package reach has tests of the ways to hosts that docs/reach.md lists: each
// way ends in a plan, an apply and an empty plan on a lab host.
package reach
