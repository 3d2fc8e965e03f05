# make demo   builds, and shows real requests being balanced, by NAT and by DR (root)
# make test   builds, and passes every test (root; network namespaces are made and removed by it)
# make build  the programs: target/release/{director,lvsadm,rsagent}
# make lint   rustfmt, clippy, shell syntax

CARGO ?= cargo

.PHONY: build demo test lint install-demo-packages install-test-packages

build:
	$(CARGO) build --release --workspace --bins

demo: install-demo-packages build
	target/release/demo

test: install-test-packages lint build
	$(CARGO) test --workspace

lint: install-demo-packages
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	sh -n tests/install-packages init/sysv/*

install-demo-packages:
	tests/install-packages cc:gcc cc:libc6-dev

install-test-packages: install-demo-packages
	tests/install-packages ip:iproute2 ethtool:ethtool curl:curl nginx:nginx-light
