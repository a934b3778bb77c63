# SPDX-License-Identifier: Apache-2.0
# What packer/build.py fills in; nothing here has a default that could hide a forgotten one.

variable "name" {
  type        = string
  description = "What the image's file is called, without its ending: the appliance, and another architecture."
}

variable "qemu" {
  type        = string
  description = "The architecture's QEMU."
}

variable "board" {
  type        = string
  description = "QEMU's -machine value."
}

variable "firmware" {
  type        = string
  description = "QEMU's -bios value."
}

variable "accelerator" {
  type        = string
  description = "kvm or tcg, as probed with a real guest: Packer's own detection believes any /dev/kvm that opens."
}

variable "accelerator_options" {
  type        = string
  description = "QEMU's -accel value."
}

variable "cpu" {
  type        = string
  description = "QEMU's -cpu value."
}

variable "base_disk" {
  type        = string
  description = "The disk that mmdebstrap's root file system was put on."
}

variable "kernel" {
  type = string
}

variable "initrd" {
  type = string
}

variable "append" {
  type        = string
  description = "The kernel's command line."
}

variable "payload" {
  type        = string
  description = "A tar of overlay, wheels and lists."
}

variable "credentials" {
  type        = string
  description = "SMBIOS strings: the build's own ssh key and network, which never touch the disk."
}

variable "build_key" {
  type        = string
  description = "The private half of that key."
}

variable "output" {
  type        = string
  description = "A directory that does not exist yet."
}
