// Package inventory reads what the user wrote: the HCL files of one directory
// become a Fleet of plain structs, or diagnostics that say what to do. It
// opens no network connection and no secret, runs nothing and reads no clock.
// HCL and cty values stop at its edge.
package inventory
