package templates

import (
	_ "embed"
	"slices"
)

//go:embed virtrust-revert.service
var revertService []byte

// RevertService returns the systemd unit that runs a host's reverter at boot,
// before any unit of libvirt, if the host went down between the arming of a
// run and its end. It is installed as virtrust-revert.service.
func RevertService() []byte { return slices.Clone(revertService) }
