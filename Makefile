# SPDX-License-Identifier: Apache-2.0
# Holdfast: one Makefile, not recursive. `make help` lists the targets.

VERSION := 0.1.0
PREFIX  ?= /usr/local
DESTDIR ?=
BUILD   ?= build
CFLAGS  ?= -O2 -g
CC      ?= gcc
CLANG   ?= clang-14
PYTHON  ?= /usr/bin/python3
V       ?= 0

FOLDERS  := agent proto server storage tests
PACKAGES := libevent libevent_openssl libevent_pthreads openssl sqlite3 liburing libprotobuf-c jansson inih libxxhash liblz4 libzstd libcurl

# Until its dependencies are installed a target is of no use: each asks for those it needs first, and what it builds is another make.
PC_CFLAGS = $(eval PC_CFLAGS := $$(shell pkg-config --cflags $(PACKAGES) 2>/dev/null))$(PC_CFLAGS)
PC_LIBS   = $(eval PC_LIBS := $$(shell pkg-config --libs $(PACKAGES) 2>/dev/null))$(PC_LIBS)

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual \
	-Wwrite-strings -Wvla -Wundef -Wformat=2 -Wswitch-enum -Wno-unused-parameter -Wno-format-truncation
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DHOLDFAST_VERSION='"$(VERSION)"' -I. -I$(BUILD) -pthread -fno-strict-aliasing \
	-fstack-protector-strong -D_FORTIFY_SOURCE=2 $(WARNINGS) $(PC_CFLAGS) $(CFLAGS)

ifeq ($(V),0)
Q := @
say = @printf '  %-8s %s\n' $(1) $(2);
else
Q :=
say =
endif

# Builds use every core, unless -j was given.
JOBS = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
SUBMAKE = $(MAKE) --no-print-directory $(JOBS)

# --- what is built -------------------------------------------------------------------------------
common_SRCS  := $(sort $(wildcard proto/common/*.c))
proto_SRCS   := $(sort $(wildcard proto/*.c))
storage_SRCS := $(sort $(wildcard storage/*.c))
server_SRCS  := $(sort $(filter-out server/main.c,$(wildcard server/*.c)))
ctl_SRCS     := $(sort $(filter-out %/main.c,$(wildcard server/ctl/*.c server/check/*.c)))
agent_SRCS   := $(sort $(filter-out agent/main.c,$(wildcard agent/*.c)))
testlib_SRCS := $(sort $(filter-out tests/lib/steady.c,$(wildcard tests/lib/*.c)))
unit_SRCS    := $(sort $(wildcard tests/unit/test_*.c))
crash_SRCS   := $(sort $(wildcard tests/crash/test_*.c))
crashlib_SRCS := tests/lib/rig_cuts.c tests/lib/rig_verbs.c tests/lib/seen.c tests/lib/steady.c tests/lib/store_rig.c
fuzz_SRCS    := $(sort $(wildcard tests/fuzz/fuzz_*.c))
bench_SRCS   := $(sort $(wildcard tests/bench/bench_*.c))

objs = $(patsubst %.c,$(BUILD)/%.o,$(1))
PB_C := $(BUILD)/proto/holdfast.pb-c.c
PB_O := $(BUILD)/proto/holdfast.pb-c.o

PROGRAMS := $(if $(wildcard server/main.c),$(BUILD)/holdfastd) $(if $(wildcard server/ctl/main.c),$(BUILD)/holdfastctl) \
	$(if $(wildcard agent/main.c),$(BUILD)/holdfast-agent) $(if $(wildcard server/check/main.c),$(BUILD)/check_holdfast)
UNITS   := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(unit_SRCS))
CRASHES := $(patsubst tests/crash/%.c,$(BUILD)/crash/%,$(crash_SRCS))
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(fuzz_SRCS))
BENCHES := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(bench_SRCS))
LIAR    := $(if $(wildcard agent/main.c),$(BUILD)/test/holdfast-agent-that-lies)
MANS    := $(patsubst docs/man/%.scd,$(BUILD)/man/%,$(sort $(wildcard docs/man/*.scd)))
client_MANS := $(BUILD)/man/holdfastctl.1
agent_MANS  := $(BUILD)/man/holdfast-agent.8
monitoring_MANS := $(filter %/check_holdfast.8,$(MANS))
server_MANS := $(filter-out $(client_MANS) $(agent_MANS) $(monitoring_MANS),$(MANS))

INSTALLS := install-server install-client install-agent install-monitoring

LIBS := $(BUILD)/libserver.a $(BUILD)/libctl.a $(BUILD)/libagent.a $(BUILD)/libstorage.a $(BUILD)/libproto.a $(BUILD)/libcommon.a

.PHONY: all programs man units crashes fuzzers benches liar demo check check-unit check-crash check-deb check-planted check-asan crash-soak soak fuzz-smoke bench tidy install $(INSTALLS) deb agent-tarball dist clean help
.DELETE_ON_ERROR:
.SECONDARY:

all: deps-build ## build the programs and their man pages
	+@$(SUBMAKE) programs man

# The empty recipes keep make from saying that there was nothing to do.
programs: $(PROGRAMS) ; @:
man: $(MANS) ; @:
units: $(UNITS) ; @:
crashes: $(CRASHES) ; @:
fuzzers: $(FUZZERS) ; @:
benches: $(BENCHES) ; @:
liar: $(LIAR) ; @:

# What is missing is installed, from Debian's packages: for build, packages, demo or tests.
deps-%:
	@deploy/install-deps $*

$(BUILD)/libcommon.a: $(call objs,$(common_SRCS))
$(BUILD)/libproto.a: $(call objs,$(proto_SRCS)) $(PB_O)
$(BUILD)/libstorage.a: $(call objs,$(storage_SRCS))
$(BUILD)/libserver.a: $(call objs,$(server_SRCS))
$(BUILD)/libctl.a: $(call objs,$(ctl_SRCS))
$(BUILD)/libagent.a: $(call objs,$(agent_SRCS))
$(BUILD)/libtest.a: $(call objs,$(testlib_SRCS))

$(BUILD)/lib%.a:
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/holdfastd: $(BUILD)/server/main.o $(BUILD)/libserver.a $(BUILD)/libstorage.a $(BUILD)/libproto.a $(BUILD)/libcommon.a
$(BUILD)/holdfastctl: $(BUILD)/server/ctl/main.o $(BUILD)/libctl.a $(BUILD)/libserver.a $(BUILD)/libstorage.a $(BUILD)/libproto.a $(BUILD)/libcommon.a
$(BUILD)/check_holdfast: $(BUILD)/server/check/main.o $(BUILD)/libctl.a $(BUILD)/libcommon.a
$(BUILD)/holdfast-agent: $(BUILD)/agent/main.o $(BUILD)/libagent.a $(BUILD)/libproto.a $(BUILD)/libcommon.a

LINK = $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -Wl,--as-needed $(PC_LIBS) $(LIBS_EXTRA) -lm

$(PROGRAMS):
	$(call say,LINK,$@)
	$(Q)$(LINK)

# The agent with an agent/pass.c that claims too much, never installed: the test of honest points must be able to fail.
$(LIAR): $(BUILD)/agent/main.o $(BUILD)/lies/agent/pass.o $(BUILD)/libagent.a $(BUILD)/libproto.a $(BUILD)/libcommon.a
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(UNITS): $(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(BUILD)/libtest.a $(LIBS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -lcmocka

# Time goes as fast as these want, and memory ends when they want: they stand in front of the functions named.
$(BUILD)/unit/test_faults: LIBS_EXTRA += -Wl,--wrap=clock_monotonic_ns,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=buffer_alloc,--wrap=disk_op_finish
$(BUILD)/unit/test_api: LIBS_EXTRA += -Wl,--wrap=points_list

$(CRASHES): $(BUILD)/crash/%: $(BUILD)/tests/crash/%.o $(call objs,$(crashlib_SRCS)) $(BUILD)/libstorage.a $(BUILD)/libcommon.a
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(BENCHES): $(BUILD)/bench/%: $(BUILD)/tests/bench/%.o $(BUILD)/libtest.a $(LIBS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK)

$(PB_C): proto/holdfast.proto
	$(call say,PROTOC,$<)
	@mkdir -p $(@D)
	$(Q)protoc-c --c_out=$(BUILD) $<

$(PB_O): $(PB_C)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -Wno-cast-qual -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.c | $(PB_C)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/lies/%.o: %.c | $(PB_C)
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -DHOLDFAST_LIES -MMD -MP -c -o $@ $<

# Fuzzers are built whole with clang: the parser under test is instrumented too. CFLAGS are not theirs, so that check-asan takes
# those of FUZZ_BUILD.
FUZZ_BUILD ?= $(BUILD)
FUZZ_CFLAGS = -std=gnu11 -D_GNU_SOURCE -DHOLDFAST_VERSION='"$(VERSION)"' -I. -I$(BUILD) -O1 -g \
	-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all $(PC_CFLAGS)
fuzz_objs = $(patsubst %.c,$(BUILD)/fuzz-objects/%.o,$(1))
fuzzed_SRCS := $(proto_SRCS) $(common_SRCS) server/bundle.c server/config.c server/http_parse.c server/listen.c server/settings.c \
	server/throttle.c storage/policy.c storage/space.c
FUZZ_PB_O := $(BUILD)/fuzz-objects/proto/holdfast.pb-c.o

$(FUZZERS): $(BUILD)/fuzz/%: $(BUILD)/fuzz-objects/tests/fuzz/%.o $(call fuzz_objs,$(fuzzed_SRCS)) $(FUZZ_PB_O)
	$(call say,FUZZ,$@)
	@mkdir -p $(@D)
	$(Q)$(CLANG) -fsanitize=fuzzer,address,undefined -o $@ $^ $(PC_LIBS)

$(FUZZ_PB_O): $(PB_C)
	$(call say,CLANG,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/fuzz-objects/%.o: %.c | $(PB_C)
	$(call say,CLANG,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/man/%: docs/man/%.scd docs/man/tidy.awk
	@mkdir -p $(@D)
	$(call say,SCDOC,$@)
	$(Q)scdoc <$< >$@.raw && awk -f docs/man/tidy.awk $@.raw >$@ && rm $@.raw

# --- what is run ----------------------------------------------------------------------------------
demo: deps-demo ## the main job end to end on real disks, in under four minutes (KEEP=1 leaves it running)
	+@$(SUBMAKE) programs
	@$(PYTHON) tests/integration/demo.py

# The fuzz targets begin at the same place each time: a run can be repeated. fuzz-smoke is what hunts.
check: deps-tests ## every test; the last line counts them
	+@$(SUBMAKE) programs man units crashes liar
	+@$(SUBMAKE) fuzzers BUILD=$(FUZZ_BUILD)
	@$(PYTHON) tests/run.py --build $(BUILD) --fuzz-build $(FUZZ_BUILD) --fuzz-seed 1 all

check-unit: deps-tests ## the unit tests alone, under a minute
	+@$(SUBMAKE) programs units
	@$(PYTHON) tests/run.py --build $(BUILD) unit

check-crash: deps-demo ## the simulated disk loses, tears and reorders, at every operation; recovery must never lie
	+@$(SUBMAKE) crashes
	@$(PYTHON) tests/crash/run.py $(BUILD) full

STATES ?= 10000000
crash-soak: deps-demo ## the same for hours: random lives until STATES=10000000 crash states were tried
	+@$(SUBMAKE) crashes
	@$(PYTHON) tests/crash/run.py $(BUILD) soak $(STATES)

check-deb: deps-tests ## the packages and the static agent alone: built, installed, used, upgraded, purged
	+@$(SUBMAKE) programs
	@HOLDFAST_BUILD=$(abspath $(BUILD)) $(PYTHON) -m pytest -q -p no:cacheprovider tests/integration/test_packages.py tests/integration/test_agent_tarball.py

BEFORE ?= c14c436
check-upgrade: deps-tests ## the programs of the version before (BEFORE, out of git) and these, upgraded in any order
	@mkdir -p $(BUILD)/before
	@git archive $(BEFORE) | tar -x -C $(BUILD)/before
	+@$(SUBMAKE) -C $(BUILD)/before BUILD=build programs
	+@$(SUBMAKE) programs
	@HOLDFAST_BUILD=$(abspath $(BUILD)) HOLDFAST_BEFORE=$(abspath $(BUILD))/before/build $(PYTHON) -m pytest -q -p no:cacheprovider tests/integration/test_upgrade.py

MINUTES ?= 10
soak: deps-demo ## agents that come and go, clients that ask for anything, for MINUTES=10; in the end all is whole
	+@$(SUBMAKE) programs
	@HOLDFAST_BUILD=$(abspath $(BUILD)) MINUTES=$(MINUTES) $(PYTHON) tests/integration/soak.py

check-planted: deps-demo ## bugs planted on purpose: the crash test must catch every one
	@$(PYTHON) tests/run.py --build $(BUILD) planted

check-asan: deps-tests ## the whole suite under the address and undefined-behaviour sanitizers
	+@$(SUBMAKE) check BUILD=$(BUILD)/asan FUZZ_BUILD=$(BUILD) \
		CFLAGS='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer'

fuzz-smoke: deps-tests ## at least a million executions of every fuzz target
	+@$(SUBMAKE) fuzzers
	@$(PYTHON) tests/run.py --build $(BUILD) fuzz

bench: deps-demo ## ratios measured side by side, into build/bench.json; a missed goal is shown as MISSED, not failed
	+@$(SUBMAKE) programs benches
	@$(PYTHON) tests/bench/run.py --build $(BUILD)

tidy: deps-tests ## formatting, linters, and the rule of which folder may include which
	@$(PYTHON) tests/lib/layering.py
	@clang-format-14 --dry-run --Werror $(shell find $(FOLDERS) -name '*.[ch]')
	@cppcheck -j2 --quiet --error-exitcode=1 --inline-suppr --enable=warning,portability --std=c11 -I. -I$(BUILD) \
		--suppress=missingInclude $(shell find $(FOLDERS) -name '*.c')
	@for script in deploy/install-deps deploy/agent/install.sh deploy/first-boot/first-boot deploy/debian/*.postrm; do sh -n $$script || exit 1; done

TO = $(DESTDIR)$(PREFIX)
UNITDIR ?= $(PREFIX)/lib/systemd/system
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions

# A unit, with the programs where they are installed.
define install_unit
install -d $(DESTDIR)$(UNITDIR)
sed 's|/usr/sbin/|$(PREFIX)/sbin/|' deploy/systemd/$(1) >$(DESTDIR)$(UNITDIR)/$(1) && chmod 0644 $(DESTDIR)$(UNITDIR)/$(1)
endef

define install_completion
$(BUILD)/$(1) completion $(2) >$(BUILD)/$(1).$(2)
install -D -m 0644 $(BUILD)/$(1).$(2) $(3)
endef

define install_completions
$(call install_completion,$(1),bash,$(TO)/share/bash-completion/completions/$(1))
$(call install_completion,$(1),zsh,$(DESTDIR)$(ZSHDIR)/_$(1))
$(call install_completion,$(1),fish,$(TO)/share/fish/vendor_completions.d/$(1).fish)
endef

define install_mans
for page in $(filter $(BUILD)/man/%,$^); do section=$${page##*.}; \
	install -D -m 0644 $$page $(TO)/share/man/man$$section/$${page##*/} || exit 1; done
endef

install: all ## install under $(DESTDIR)$(PREFIX)
	+@$(SUBMAKE) $(INSTALLS)

# What each package has. They build only what they install, and install nothing to build with.
install-server: $(BUILD)/holdfastd $(server_MANS)
	install -d $(DESTDIR)/etc/holdfast/conf.d
	install -D $(BUILD)/holdfastd $(TO)/sbin/holdfastd
	$(call install_completions,holdfastd)
	install -D -m 0644 deploy/holdfastd.conf $(TO)/share/doc/holdfast-server/examples/holdfastd.conf
	install -D -m 0644 deploy/systemd/holdfast.sysusers $(TO)/lib/sysusers.d/holdfast.conf
	install -D -m 0644 deploy/systemd/holdfast.tmpfiles $(TO)/lib/tmpfiles.d/holdfast.conf
	$(call install_unit,holdfastd.service)
	$(install_mans)

install-client: $(BUILD)/holdfastctl $(client_MANS)
	install -D $(BUILD)/holdfastctl $(TO)/bin/holdfastctl
	$(call install_completions,holdfastctl)
	$(install_mans)

install-agent: $(BUILD)/holdfast-agent $(agent_MANS)
	install -D $(BUILD)/holdfast-agent $(TO)/sbin/holdfast-agent
	$(call install_completions,holdfast-agent)
	$(call install_unit,holdfast-agent.service)
	$(install_mans)

install-monitoring: $(BUILD)/check_holdfast $(monitoring_MANS)
	install -D $(BUILD)/check_holdfast $(TO)/lib/nagios/plugins/check_holdfast
	install -d $(TO)/share/holdfast
	install -m 0644 $(filter-out %.test.yml,$(wildcard deploy/monitoring/*)) $(TO)/share/holdfast/
	$(install_mans)

DEB_TREE = $(BUILD)/deb/holdfast-$(VERSION)
deb: deps-packages ## Debian packages, into build/deb
	@rm -rf $(BUILD)/deb && mkdir -p $(DEB_TREE)
	@cp -r Makefile LICENSE README.md agent deploy docs proto server storage $(DEB_TREE)/
	@cp -r deploy/debian $(DEB_TREE)/debian
	@test "$$(dpkg-parsechangelog -l deploy/debian/changelog -S Version)" = $(VERSION) || \
		{ echo 'deploy/debian/changelog is not of version $(VERSION)' >&2; exit 1; }
	@cd $(DEB_TREE) && env -i PATH="$$PATH" HOME="$$HOME" dpkg-buildpackage -us -uc -b $(JOBS) >../build.log 2>&1 || { tail -n 40 ../build.log >&2; exit 1; }
	@rm -r $(DEB_TREE) && ls $(BUILD)/deb/*.deb

# One program for every Linux since 3.10, with no library: the objects of the agent, and the one that knows it is static.
STATIC_LIBS = $(shell pkg-config --static --libs libevent openssl libprotobuf-c jansson libxxhash liblz4 libzstd 2>/dev/null)
$(BUILD)/holdfast-agent-static: $(BUILD)/agent/main.o $(BUILD)/static/agent/address.o $(BUILD)/libagent.a $(BUILD)/libproto.a $(BUILD)/libcommon.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -static -s -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(STATIC_LIBS) 2>$@.log || \
		{ cat $@.log >&2; exit 1; }

$(BUILD)/static/%.o: %.c | $(PB_C)
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -DHOLDFAST_STATIC -MMD -MP -c -o $@ $<

TARBALL = holdfast-agent-$(VERSION)-x86_64
agent-tarball: deps-build ## a static agent with an installer, for where there is no package
	+@$(SUBMAKE) $(BUILD)/$(TARBALL).tar.gz
	@ls $(BUILD)/$(TARBALL).tar.gz

$(BUILD)/$(TARBALL).tar.gz: $(BUILD)/holdfast-agent-static $(agent_MANS) deploy/agent/install.sh deploy/systemd/holdfast-agent.service
	@rm -rf $(BUILD)/$(TARBALL) && mkdir $(BUILD)/$(TARBALL)
	@cp $< $(BUILD)/$(TARBALL)/holdfast-agent
	@cp $(filter-out $<,$^) LICENSE $(BUILD)/$(TARBALL)/
	@tar -C $(BUILD) --sort=name --owner=0 --group=0 --numeric-owner -czf $(BUILD)/$(TARBALL).tar.gz $(TARBALL)
	@rm -r $(BUILD)/$(TARBALL)

dist: ## a source tarball of the committed tree
	@mkdir -p $(BUILD)
	git archive --prefix=holdfast-$(VERSION)/ -o $(BUILD)/holdfast-$(VERSION).tar.gz HEAD

clean: ## remove what was built
	rm -rf $(BUILD)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' Makefile

-include $(shell find $(BUILD) -path $(BUILD)/deb -prune -o -type f -name '*.d' -print 2>/dev/null)
