# SPDX-License-Identifier: GPL-2.0
#
# Builds vbd.ko and vbd_dm.ko for the running kernel, or for any prepared kernel tree with CONFIG_RUST=y:
#
#     make [KDIR=/lib/modules/…/build]     both modules, at the top of this checkout
#     make install                         into /lib/modules (INSTALL_MOD_PATH= is honoured)
#     make clippy | rustfmt | rustfmt-check | clean
#
# Debian's headers packages lack Rust metadata: `cargo xtask build` prepares a tree that has it.

KDIR ?= /lib/modules/$(shell uname -r)/build
M := $(CURDIR)
RUSTFMT ?= rustfmt
# Not empty: builds for kernels outside the range too, to see what will change.
ANY_KERNEL ?=

# Make takes a space for the end of a name, and so does the kernel's build.
ifneq ($(word 2,$(M))$(word 2,$(KDIR)),)
  $(error a path with a space in it cannot be built in: "$(if $(word 2,$(M)),$(M),$(KDIR))")
endif

include $(M)/kmod/kernels.mk

# A probe that prints the first thing that is missing, in the order in which one would get it.
probe = $(strip $(if $(wildcard $(KDIR)/Makefile),,no kernel build tree at KDIR=$(KDIR) (install the kernel's headers or give KDIR=)))
probe := $(probe)
ifeq ($(probe),)
  config := $(firstword $(wildcard $(KDIR)/include/config/auto.conf))
  probe := $(if $(config),,$(KDIR) is not prepared: no include/config/auto.conf (make modules_prepare there))
endif
ifeq ($(probe)$(ANY_KERNEL),)
  # The first two numbers of the release, such as 7.2.12+deb13-cloud-amd64, are the series.
  series := $(shell sed -En 's/^([0-9]+\.[0-9]+).*/\1/p' $(wildcard $(KDIR)/include/config/kernel.release) </dev/null)
  probe := $(if $(series),,$(KDIR)/include/config/kernel.release does not name the kernel's series (make modules_prepare there))
endif
ifeq ($(probe)$(ANY_KERNEL),)
  probe := $(shell printf '%s\n' $(KERNEL_FIRST) $(series) $(KERNEL_LAST) | sort --version-sort --check=silent || \
    echo 'the kernel of $(KDIR) is of series $(series), and the modules are made for $(KERNEL_FIRST) to $(KERNEL_LAST) (kmod/kernels.mk)')
endif
ifeq ($(probe),)
  probe := $(shell grep -qx 'CONFIG_RUST=y' $(config) || echo 'the kernel of $(KDIR) was built without CONFIG_RUST=y')
endif
ifeq ($(probe),)
  probe := $(if $(wildcard $(KDIR)/rust/libkernel.rmeta),,$(KDIR)/rust/libkernel.rmeta is missing: the headers carry no Rust metadata (cargo xtask build prepares a tree that does))
endif
ifeq ($(probe),)
  probe := $(if $(wildcard $(KDIR)/scripts/target.json),,$(KDIR)/scripts/target.json is missing: the headers carry no Rust target (cargo xtask build prepares a tree that does))
endif
ifeq ($(probe),)
  missing := $(firstword $(foreach tool,rustc bindgen,$(if $(shell command -v $(tool)),,$(tool))))
  probe := $(if $(missing),the program $(missing) is missing (install the kernel suite's own: symbol names depend on its version))
endif
ifeq ($(probe),)
  wanted := $(shell sed -n 's/^CONFIG_RUSTC_VERSION_TEXT=//p' $(config))
  probe := $(if $(findstring $(wanted),$(shell rustc --version)),,rustc is "$(shell rustc --version)" but the kernel was built with "$(wanted)")
endif

.PHONY: modules install clean clippy rustfmt rustfmt-check check-prerequisites

modules: check-prerequisites
	+$(MAKE) -C $(KDIR) M=$(M) modules

install: modules
	+$(MAKE) -C $(KDIR) M=$(M) modules_install

# clippy-driver takes rustc's place, so the crate has to be compiled again.
clippy: check-prerequisites
	$(RM) $(M)/kmod/vbd.o $(M)/kmod/dm.o
	+$(MAKE) -C $(KDIR) M=$(M) CLIPPY=1 modules

rustfmt:
	$(RUSTFMT) --edition 2021 kmod/vbd.rs kmod/dm.rs

rustfmt-check:
	$(RUSTFMT) --check --edition 2021 kmod/vbd.rs kmod/dm.rs

clean:
	$(if $(wildcard $(KDIR)/Makefile),+$(MAKE) -C $(KDIR) M=$(M) clean)
	$(RM) kmod/sys/bindings_generated.rs

check-prerequisites:
	$(if $(probe),$(error $(probe)))@:
