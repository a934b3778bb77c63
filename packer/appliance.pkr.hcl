# SPDX-License-Identifier: Apache-2.0
# Boots an appliance's base disk, installs its files, and makes a compressed image.
# Works with Debian's Packer 1.6.6 and current releases. The latter also need plugins.pkr.hcl, which run-packer.sh
# makes from plugins.pkr.hcl.in, because 1.6 cannot parse it.

source "qemu" "appliance" {
  iso_url          = var.base_disk
  iso_checksum     = "none"
  disk_image       = true
  disk_interface   = "virtio"
  disk_discard     = "unmap"
  disk_compression = true
  skip_resize_disk = true
  format           = "qcow2"
  net_device       = "virtio-net"
  output_directory = var.output
  vm_name          = "${var.name}.qcow2"

  qemu_binary  = var.qemu
  accelerator  = var.accelerator
  cpus         = 1
  memory       = 1024
  headless     = true
  disable_vnc  = true
  boot_wait    = "1s"

  ssh_username         = "root"
  ssh_private_key_file = var.build_key
  # for a busy host without KVM; a kernel panic ends the VM at once
  ssh_timeout          = "60m"
  shutdown_command     = "systemctl poweroff"
  shutdown_timeout     = "30m"

  qemuargs = [
    # a kernel panic ends the VM, and with it Packer's wait
    ["-no-reboot"],
    ["-machine", var.board],
    ["-bios", var.firmware],
    ["-accel", var.accelerator_options],
    ["-cpu", var.cpu],
    ["-kernel", var.kernel],
    ["-initrd", var.initrd],
    ["-append", var.append],
    ["-smbios", "type=11,path=${var.credentials}-0"],
    ["-smbios", "type=11,path=${var.credentials}-1"],
    ["-smbios", "type=11,path=${var.credentials}-2"],
    ["-serial", "file:${var.credentials}.serial.log"],
  ]
}

build {
  sources = ["source.qemu.appliance"]

  provisioner "file" {
    source      = var.payload
    destination = "/tmp/payload.tar"
  }

  provisioner "shell" {
    # a file system in memory, so that temporary files leave no trace on the disk
    environment_vars = ["PAYLOAD=/run/payload"]
    scripts = [
      "${path.root}/provision/10-overlay.sh",
      "${path.root}/provision/20-units.sh",
      "${path.root}/provision/30-python.sh",
      "${path.root}/provision/40-boot.sh",
      "${path.root}/provision/50-privileges.sh",
      "${path.root}/provision/90-clean.sh",
      "${path.root}/provision/95-assert.sh",
    ]
  }

  post-processor "checksum" {
    checksum_types = ["sha256"]
    output         = "${var.output}/packer.{{.ChecksumType}}"
  }
}
