// Package ways proves that virtrust gets in wherever ssh does: each case is a
// way to reach lab hosts, over which it plans, applies, and plans again with
// nothing left to do. docs/reach.md has the tables.
package ways
