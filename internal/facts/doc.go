// Package facts answers what is true on a host. Tasks name what they need as
// queries; one POSIX script answers all queries of a host in one round trip;
// Parse turns its output into plain values. The package does no I/O itself and
// treats everything that a host said as data.
package facts
