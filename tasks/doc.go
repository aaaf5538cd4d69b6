// Package tasks answers what a secured host looks like: one file per kind of
// thing. A task compares what was seen of a host with what the policy wants
// and answers with operations and findings, without any I/O.
package tasks
