// Package life tests the life of certificates on lab hosts of three releases:
// renewal beside running guests, a fleet that has expired, revocation, a company's
// authorities and one for each cluster.
package life
