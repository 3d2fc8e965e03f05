# make demo   builds, and shows real requests being balanced, by NAT and by DR, and a dead server taken out (root)
# make test   builds, and passes every test (root; network namespaces are made and removed by it)
# make bench  builds, and measures the director beside the kernel, nftables, haproxy and nginx (root,
#             two CPUs); KINDS="packets streams requests round-trip methods families agents scrape checks deaths
#             flood" and REPEAT=5 may be given
# make bench-core  the same of the pure core: nanoseconds and instructions per packet, memory
# make deb   builds the Debian packages target/debian/{lvs-director,lvs-rsagent}_*.deb
# make build  the programs: target/release/{director,lvsadm,rsagent}
# make lint   rustfmt, clippy, shellcheck
# make fuzz   arbitrary bytes for FUZZ_SECONDS (600) a target; says what it found and where it lies

CARGO ?= cargo
FUZZ_SECONDS ?= 600
KINDS ?=
REPEAT ?= 5

.PHONY: build deb demo test bench bench-core lint fuzz
.PHONY: install-demo-packages install-deb-packages install-test-packages install-bench-packages

build:
	$(CARGO) build --release --workspace --bins

deb: install-deb-packages build
	init/debian/build

demo: install-demo-packages build
	target/release/demo

test: install-test-packages lint build deb
	tests/packages
	$(CARGO) test --workspace
	$(CARGO) test --release -p director --lib
	LVS_CAPTURE=clsact $(CARGO) test -p laboratory

bench: install-bench-packages build
	target/release/bench $(KINDS) --repeat $(REPEAT)

bench-core: install-demo-packages
	tests/install-packages valgrind:valgrind
	$(CARGO) bench -p director --bench core
	$(CARGO) bench -p director --bench scale
	$(CARGO) bench -p director --bench instructions

lint: install-demo-packages
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml --check
	tests/install-packages shellcheck:shellcheck
	shellcheck --shell=sh --external-sources init/sysv/* init/libexec/* init/debian/build \
	    init/debian/*/postinst init/debian/*/prerm init/debian/*/postrm \
	    tests/install-packages tests/clean-debian tests/packages tests/packages-inside tests/fuzz/run

fuzz: install-demo-packages
	tests/install-packages c++:g++
	FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run

install-demo-packages:
	tests/install-packages cc:gcc cc:libc6-dev

install-deb-packages: install-demo-packages
	tests/install-packages dpkg-shlibdeps:dpkg-dev strip:binutils

install-test-packages: install-demo-packages install-deb-packages
	tests/install-packages ip:iproute2 iptables:iptables nft:nftables ethtool:ethtool sysctl:procps \
	    curl:curl nginx:nginx-light openssl:openssl dnsmasq:dnsmasq-base aiosmtpd:python3-aiosmtpd \
	    /etc/ssl/certs/ca-certificates.crt:ca-certificates prometheus:prometheus systemd-analyze:systemd groff:groff-base \
	    vsftpd:vsftpd sipp:sip-tester debootstrap:debootstrap lintian:lintian

install-bench-packages: install-test-packages
	tests/install-packages iperf3:iperf3 wrk:wrk haproxy:haproxy \
	    /usr/lib/nginx/modules/ngx_stream_module.so:libnginx-mod-stream
