package ansible

import (
	"errors"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// older are the names that Ansible used before 2.0 and still reads.
var older = map[string]string{
	"ansible_ssh_host": "ansible_host", "ansible_ssh_port": "ansible_port", "ansible_ssh_user": "ansible_user",
	"ansible_private_key_file": "ansible_ssh_private_key_file", "ansible_sudo": "ansible_become",
}

// told are variables that change how Ansible reaches a host and are not taken
// over, with what to write instead.
var told = map[string]string{
	"ansible_ssh_common_args":       "options of ssh are not taken over; a jump host is jump = [\"…\"] in an ssh block, or ProxyJump in ~/.ssh/config",
	"ansible_ssh_extra_args":        "options of ssh are not taken over; write them into ~/.ssh/config",
	"ansible_ssh_pass":              "passwords are not taken over: log in with a key",
	"ansible_password":              "passwords are not taken over: log in with a key",
	"ansible_become_pass":           "passwords are not taken over",
	"ansible_become_password":       "passwords are not taken over",
	"ansible_become_user":           "changes are made as root",
	"ansible_become_method":         "only sudo leads to root here",
	"ansible_ssh_executable":        "no ssh program is used here",
	"ansible_host_key_checking":     "host keys are always checked",
	"ansible_ssh_host_key_checking": "host keys are always checked",
}

// host makes a host of its variables. It is nil for one that is not reached
// by SSH.
func (r *reader) host(name string, values vars, ignored map[string]int) *Host {
	h := &Host{Name: name}
	for was, now := range older {
		if v, ok := values[was]; ok {
			if _, both := values[now]; !both {
				values[now] = v
			}
			delete(values, was)
		}
	}
	if c := values["ansible_connection"]; c != "" && c != "ssh" && c != "smart" && c != "paramiko" && c != "paramiko_ssh" {
		r.note("%s is left out: Ansible reaches it by %q and not by SSH", name, c)
		return nil
	}
	if p := r.ports[name]; p != "" && values["ansible_port"] == "" {
		values["ansible_port"] = p
	}
	for _, k := range sortedKeys(values) {
		v := values[k]
		unclear := strings.Contains(v, "{{") || v == vaulted
		switch k {
		case "ansible_connection":
		case "ansible_host", "ansible_user", "ansible_ssh_private_key_file", "ansible_port", "ansible_become":
			if unclear {
				r.note("%s: %s is a template or encrypted, and was not taken over", name, k)
				continue
			}
			r.set(h, k, v)
		default:
			if why, ok := told[k]; ok {
				r.note("%s: %s: %s", name, k, why)
				continue
			}
			ignored[k]++
		}
	}
	return h
}

func (r *reader) set(h *Host, name, value string) {
	switch name {
	case "ansible_host":
		h.Address = value
	case "ansible_user":
		h.User = value
	case "ansible_ssh_private_key_file":
		h.Identity = value
	case "ansible_become":
		h.Become = truth(value)
	case "ansible_port":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > 65535 {
			r.note("%s: ansible_port %q is no port, and was not taken over", h.Name, value)
			return
		}
		h.Port = n
	}
}

// truth reads a boolean as Ansible does.
func truth(s string) bool {
	switch strings.ToLower(s) {
	case "true", "yes", "on", "1", "y", "t":
		return true
	}
	return false
}

// varFiles reads NAME, NAME.yml, NAME.yaml, NAME.json or the files of the
// directory NAME.
func (r *reader) varFiles(dir, name string) (vars, error) {
	out := vars{}
	for _, suffix := range []string{"", ".yml", ".yaml", ".json"} {
		file := path.Join(dir, name+suffix)
		if !fs.ValidPath(file) || strings.ContainsAny(name, "/\\") {
			return out, nil
		}
		info, err := fs.Stat(r.files, file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list := []string{file}
		if info.IsDir() {
			entries, err := fs.ReadDir(r.files, file)
			if err != nil {
				return nil, err
			}
			list = nil
			for _, e := range entries {
				if ext := path.Ext(e.Name()); !e.IsDir() && (ext == "" || ext == ".yml" || ext == ".yaml" || ext == ".json") && !strings.HasPrefix(e.Name(), ".") {
					list = append(list, path.Join(file, e.Name()))
				}
			}
		}
		for _, f := range list {
			text, err := r.text(f)
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(text, "$ANSIBLE_VAULT") {
				r.note("%s is encrypted, and was not read", f)
				continue
			}
			if err := yamlVars(text, out); err != nil {
				return nil, errors.Join(errors.New(f), err)
			}
		}
	}
	return out, nil
}
