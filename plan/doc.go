// Package plan answers what will change and how it is carried out. A Task
// compares what was seen of one host with what should be and answers with
// operations and findings, without I/O. Make puts them together; Apply carries
// a plan out, one host transaction at a time, through small interfaces that
// the outside world implements.
package plan
