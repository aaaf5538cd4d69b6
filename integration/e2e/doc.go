// Package e2e holds the tests of the whole program: the real binary, on real
// hosts of the lab.
package e2e
