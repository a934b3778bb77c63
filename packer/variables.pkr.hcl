# SPDX-License-Identifier: Apache-2.0
# Variables that packer/build.py sets; they have no defaults, so that a missing one is an error.

variable "name" {
  type        = string
  description = "The image's file name without extension: the appliance, with the architecture if it is not amd64."
}

variable "qemu" {
  type        = string
  description = "The QEMU program of the architecture."
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
  description = "kvm or tcg, probed by booting a guest: Packer's detection accepts any /dev/kvm that can be opened."
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
  description = "The base disk with mmdebstrap's root file system."
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
  description = "A tar with overlay, wheels and lists."
}

variable "credentials" {
  type        = string
  description = "SMBIOS strings with the build's ssh key and network, which are never written to the disk."
}

variable "build_key" {
  type        = string
  description = "The private part of that key."
}

variable "output" {
  type        = string
  description = "A directory that does not exist yet."
}
