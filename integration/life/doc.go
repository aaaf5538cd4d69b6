// Package life tests the life of certificates on lab hosts of three releases:
// renewal beside running guests, a fleet that has expired, revocation.
package life
