window "night" {
  start  = "25:00"
  length = "3d"
  zone   = "Europe/Berlin"
}

window "sunday" {
  start  = "02:00"
  length = "2h"
  zone   = "Mars/Olympus"
  days   = ["sunday"]
}

window "never" {
  start  = "02:00"
  length = "2h"
  days   = []
}

window "unused" {
  start  = "02:00"
  length = "2h"
}

window "half" {
  start = "02:00"
}

authority "libvirt" {
  organization = "Example"
}

policy "standard" {
  template = "libvirt"

  rollout {
    windows = [window.night, window.sunday, window.never, window.half, window.nigth]
  }
}

policy "text" {
  template = "libvirt"

  rollout {
    windows = ["night"]
  }
}
