# Two commands do everything on a machine with Python and make: `make run` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
CACHE  := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pytcg/guest

# make run KERNEL=… INITRD=… APPEND=… MEM=… OPTIONS=…
KERNEL  ?=
INITRD  ?=
MEM     ?= 256
APPEND  ?= console=ttyS0 quiet
OPTIONS ?=

ifeq ($(KERNEL),)
GUEST        := guest
BOOT_KERNEL  := $(CACHE)/vmlinuz
BOOT_INITRD  := $(or $(INITRD),$(CACHE)/initramfs.cpio)
else
GUEST        :=
BOOT_KERNEL  := $(KERNEL)
BOOT_INITRD  := $(INITRD)
endif

.PHONY: run test check guest clean

run: $(STAMP) $(GUEST)
	@$(BIN)/pytcg-system-x86_64 -m '$(MEM)' -nographic -kernel '$(BOOT_KERNEL)' \
	    $(if $(BOOT_INITRD),-initrd '$(BOOT_INITRD)') -append '$(APPEND)' $(OPTIONS)

# The distribution's kernel and a busybox initramfs, in the user's cache folder.
guest: $(STAMP)
	@$(BIN)/python -m pytcg.cli.guest --cache '$(CACHE)' > /dev/null

test: $(STAMP) check
	$(BIN)/python -m pytest -q -n 2

check: $(STAMP)
	$(BIN)/ruff check src frontends backends tests bench
	$(BIN)/mypy src frontends backends bench

$(STAMP): pyproject.toml
	@test -x $(BIN)/python -a -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@$(BIN)/python -m compileall -q src frontends backends  # even where nothing else may write it
	@touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
