# make demo   builds, and shows real requests being balanced, by NAT and by DR (root)
# make test   builds, and passes every test (root; network namespaces are made and removed by it)
# make bench  builds, and measures the director beside the kernel, nftables, haproxy and nginx (root,
#             two CPUs); KINDS="packets streams requests round-trip" and REPEAT=5 may be given
# make build  the programs: target/release/{director,lvsadm,rsagent}
# make lint   rustfmt, clippy, shell syntax

CARGO ?= cargo

KINDS ?=
REPEAT ?= 5

.PHONY: build demo test bench lint install-demo-packages install-test-packages install-bench-packages

build:
	$(CARGO) build --release --workspace --bins

demo: install-demo-packages build
	target/release/demo

test: install-test-packages lint build
	$(CARGO) test --workspace

bench: install-bench-packages build
	target/release/bench $(KINDS) --repeat $(REPEAT)

lint: install-demo-packages
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	sh -n tests/install-packages init/sysv/*

install-demo-packages:
	tests/install-packages cc:gcc cc:libc6-dev

install-test-packages: install-demo-packages
	tests/install-packages ip:iproute2 ethtool:ethtool curl:curl nginx:nginx-light

install-bench-packages: install-test-packages
	tests/install-packages nft:nftables iperf3:iperf3 wrk:wrk haproxy:haproxy \
	    /usr/lib/nginx/modules/ngx_stream_module.so:libnginx-mod-stream
