// Package examples has configurations that work, one a directory; a test loads
// and plans each.
package examples
