// Package ansible reads which hosts an Ansible inventory names, in which
// groups, and how they are reached. It runs nothing and expands no template:
// what it cannot tell, it says in a note.
package ansible
