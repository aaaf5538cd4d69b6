// Package architecture holds no code: its test keeps the import directions
// that docs/architecture.md decides.
package architecture
