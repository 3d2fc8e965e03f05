#!/usr/bin/env python3
"""Records random histories of commands and packets on a kernel with ip_vs.

    record.py FIRST LAST > recorded.txt
    record.py FIRST LAST sctp > sctp.txt

Each seed is a history of its own, in a network namespace of its own: services, real servers and
switches come, change and go, while clients and servers send. Needs root, ipvsadm and a kernel with
ip_vs and its schedulers; one CPU makes it quickest. Uses nothing of the host's network.

A history is `# SEED`, then lines, each with the milliseconds since the history began:

    MS $ COMMAND                       and what it printed: `! ` errors, `= ` exit status if not 0
    MS > WHO KIND FROM TO ANSWER       a packet of the client's (c) or of a real server's (r): KIND is its
                                       TCP flags, `udp` or the SCTP chunks, ANSWER what became of it: r1..
                                       the real server it went to, c it came out at the client's, `reset`,
                                       `unreachable`, `no-protocol`, or `-` nothing
    MS . state                         then `|` rows: services, sorted, each with its real servers as REAL
                                       WEIGHT ACTIVE INACTIVE, newest first, then the connections, sorted,
                                       as PROTOCOL CLIENT VIRTUAL REAL STATE SECONDS
    MS . listing                       then `|` rows: what `ipvsadm -Ln` and `-Sn` print
    MS . statistics                    then `|` rows: what `ipvsadm -Ln --stats` prints
"""
import ctypes, os, random, select, socket, struct, subprocess, sys, time

VIP, D_CLIENT, D_SERVER = "10.0.0.100", "02:00:00:00:00:01", "02:00:00:00:00:02"
CLIENT_MAC = "02:00:00:00:01:01"
# One history of so many ends with statistics.
STATISTICS = 10
# Without any service the kernel looks at no packet, not even of connections that are left.
OTHER = "ipvsadm -A -t 10.0.0.99:9 -s rr"
SCHEDULERS = "rr wrr lc wlc sed nq lblc lblcr dh sh mh fo ovf".split()
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}
CHUNKS = ("DATA INIT INIT_ACK SACK HEARTBEAT HEARTBEAT_ACK ABORT SHUTDOWN SHUTDOWN_ACK ERROR COOKIE_ECHO COOKIE_ACK "
          "ECNE CWR SHUTDOWN_COMPLETE").split()
# Two of the kernel's: what a packet ends is gone by then.
TICKS = 0.009
libc = ctypes.CDLL(None, use_errno=True)


def run(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True)


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sctp(kind, sport, dport):
    """`A+B` is two chunks, the first of six bytes and two of padding."""
    chunks = [struct.pack("!BBH", CHUNKS.index(name), 0, 4) for name in kind.split("+")]
    for at in range(len(chunks) - 1):
        chunks[at] = chunks[at][:2] + b"\0\x06xx\0\0"
    ahead, behind = struct.pack("!HHI", sport, dport, 1000), b"".join(chunks)
    return ahead + struct.pack("<I", crc32c(ahead + bytes(4) + behind)) + behind


def packet(kind, source, destination, size=0):
    (saddr, sport), (daddr, dport) = (x.split(":") for x in (source, destination))
    sport, dport = int(sport), int(dport)
    ends = socket.inet_aton(saddr) + socket.inet_aton(daddr)
    data = b"x" * size
    if kind == "udp":
        proto = 17
        body = struct.pack("!HHHH", sport, dport, 8 + size, 0) + data
    elif kind.split("+")[0] in CHUNKS:
        proto = 132
        body = sctp(kind, sport, dport)
    else:
        proto = 6
        flags = sum(FLAGS[letter] for letter in kind)
        body = struct.pack("!HHIIBBHHH", sport, dport, 1000, 1, 0x50, flags, 8192, 0, 0) + data
        total = checksum(ends + struct.pack("!BBH", 0, 6, len(body)) + body)
        body = body[:16] + struct.pack("!H", total) + body[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0x4000, 64, proto, 0) + ends
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


class Host:
    """A namespace with a director's interfaces, and raw sockets at their other ends."""

    def __init__(self):
        libc.unshare(0x40000000)
        lines = ["link set lo up"]
        for dev, own in (("cl", D_CLIENT), ("rs", D_SERVER)):
            lines += [f"link add {dev} address {own} type veth peer name {dev}x",
                      f"link set {dev}x up", f"link set {dev} up"]
        lines += ["addr add 10.0.0.1/24 dev cl", f"addr add {VIP}/32 dev cl", "addr add 10.1.0.1/24 dev rs"]
        lines += [f"neigh add 10.0.0.{n} lladdr {CLIENT_MAC} dev cl" for n in range(10, 20)]
        lines += [f"neigh add 10.1.0.{10 + n} lladdr 02:00:00:00:02:{n:02x} dev rs" for n in range(1, 6)]
        for name in ("conf/all/rp_filter", "conf/default/rp_filter", "icmp_ratelimit"):
            self.write(f"/proc/sys/net/ipv4/{name}", 0)
        self.write("/proc/sys/net/ipv6/conf/default/disable_ipv6", 1)
        self.write("/proc/sys/net/ipv4/ip_forward", 1)
        made = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), capture_output=True, text=True)
        if made.returncode:
            sys.exit("setup: " + made.stderr)
        self.ends = {}
        for who, dev in (("c", "clx"), ("r", "rsx")):
            end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
            end.bind((dev, 0x0800))
            end.setsockopt(263, 1, struct.pack("IHH8s", socket.if_nametoindex(dev), 1, 0, b""))
            end.setblocking(False)
            self.ends[who] = end

    def write(self, path, value):
        try:
            with open(path, "w") as file:
                file.write(str(value))
            return True
        except OSError:
            return False

    def close(self):
        for end in self.ends.values():
            end.close()

    def send(self, who, kind, source, destination, size):
        own = mac(D_CLIENT if who == "c" else D_SERVER)
        far = mac(CLIENT_MAC if who == "c" else "02:00:00:00:02:01")
        self.ends[who].send(own + far + b"\x08\x00" + packet(kind, source, destination, size))
        wait = 0
        while True:
            for name, end in self.ends.items():
                try:
                    frame, origin = end.recvfrom(2048)
                except BlockingIOError:
                    continue
                if origin[2] == 4:  # our own
                    continue
                time.sleep(TICKS)
                return self.answer(name, frame, source, destination)
            if wait:
                return "-"
            wait = 1
            select.select(list(self.ends.values()), [], [], 0.05)

    def answer(self, name, frame, source, destination):
        if name == "r":
            if frame[23] == 1:
                return "unreachable" if frame[34:36] == b"\x03\x03" else "?"
            if frame[:5] != b"\x02\0\0\0\x02":
                return "?"
            return "r%d" % frame[5]
        protocol, body = frame[23], frame[34:]
        if protocol == 1:
            known = {b"\x03\x03": "unreachable", b"\x03\x02": "no-protocol"}
            return known.get(bytes(body[:2]), "icmp%d.%d" % (body[0], body[1]))
        if protocol == 6 and body[13] & 4 and socket.inet_ntoa(frame[26:30]) == destination.split(":")[0]:
            return "reset"
        ports = struct.unpack("!HH", body[:4])
        return "c %s:%d" % (socket.inet_ntoa(frame[26:30]), ports[0])


class History:
    KEYS = [f"-t {VIP}:80", f"-t {VIP}:443", f"-u {VIP}:53", f"-t {VIP}:0", f"-u {VIP}:0", f"-t {VIP}:21"]
    SWITCHES = [
        ("conn_reuse_mode", [0, 1, 2, 3]), ("expire_nodest_conn", [0, 1]),
        ("expire_quiescent_template", [0, 1]), ("sloppy_tcp", [0, 1]), ("secure_tcp", [0, 3]),
        ("nat_icmp_send", [0, 1]), ("drop_packet", [0, 3]),
    ]

    def __init__(self, seed):
        self.seed, self.random = seed, random.Random(seed)
        self.host = Host()
        self.began = time.monotonic()
        self.services, self.servers, self.flows = {}, {}, []
        self.method = {}

    def ms(self):
        return int((time.monotonic() - self.began) * 1000)

    def command(self, text):
        began = self.ms()
        done = run(text)
        print(began, "$", text)
        for line in done.stderr.splitlines():
            print("!", line)
        if done.returncode:
            print("=", done.returncode)
        return done

    def chance(self, probability):
        return self.random.random() < probability

    # -- commands

    def service_words(self, key):
        pick = self.random
        scheduler = pick.choice(self.themes)
        words = f"-s {scheduler}"
        if scheduler in ("sh", "mh") and self.chance(0.6):
            some = [f"{scheduler}-fallback", f"{scheduler}-port"]
            words += " -b " + ",".join(pick.sample(some, pick.randint(1, 2)))
        if key.endswith(":0") and self.chance(0.95) or self.chance(self.persistent):
            words += f" -p {pick.choice([3, 4, 60, 300])}"
            if self.chance(0.4):
                words += f" -M {pick.choice(['255.255.255.254', '255.255.255.252', '255.255.255.0'])}"
        if key.startswith("-u") and self.chance(0.15):
            words += " -o"
        return words

    def add_service(self):
        key = self.random.choice(self.keys)
        words = self.service_words(key)
        if not self.command(f"ipvsadm -A {key} {words}").returncode:
            self.services[key] = []

    def some_service(self):
        if self.services and self.chance(0.97):
            return self.random.choice(sorted(self.services))
        return self.random.choice(self.keys)

    def edit_service(self):
        key = self.some_service()
        self.command(f"ipvsadm -E {key} {self.service_words(key)}")

    def server_words(self):
        pick = self.random
        words = pick.choice(self.methods) + f" -w {pick.choice([0, 1, 1, 1, 2, 3, 5])}"
        if self.chance(self.limited):
            upper = pick.choice([1, 2, 3, 4, 8])
            words += f" -x {upper} -y {pick.randint(0, upper)}"
        return words

    def add_server(self, key=None):
        key = key or self.some_service()
        pick = self.random
        address = f"10.1.0.1{pick.randint(1, 4)}"
        port = key.rsplit(":")[-1] if self.chance(0.8) else pick.choice(["8080", "0"])
        server, words = f"{address}:{port}", self.server_words()
        # One that comes back does so with its connections.
        words = self.method.setdefault((key, server), words[:2]) + words[2:]
        if not self.command(f"ipvsadm -a {key} -r {server} {words}").returncode:
            self.services.setdefault(key, []).append(server)

    def some_server(self, key):
        known = self.services.get(key)
        if known and self.chance(0.95):
            return self.random.choice(known)
        return f"10.1.0.1{self.random.randint(1, 4)}:80"

    def edit_server(self):
        """Not its method: the kernel keeps one route for all, and loses connections of the other one."""
        key = self.some_service()
        server = self.some_server(key)
        words = self.server_words()
        words = self.method.get((key, server), words[:2]) + words[2:]
        self.command(f"ipvsadm -e {key} -r {server} {words}")

    def delete_server(self):
        key = self.some_service()
        server = self.some_server(key)
        if not self.command(f"ipvsadm -d {key} -r {server}").returncode and server in self.services.get(key, []):
            self.services[key].remove(server)

    def delete_service(self):
        key = self.some_service()
        if self.chance(0.1):
            self.command("ipvsadm -C")
            self.services.clear()
            self.command(OTHER)
        elif not self.command(f"ipvsadm -D {key}").returncode:
            del self.services[key]

    def switch(self):
        name, values = self.random.choice(self.SWITCHES)
        value = self.random.choice(values)
        if name == "expire_nodest_conn" and "-g" in self.methods:
            return  # a connection that ends is kept, closed, by the reset that the host then sends
        print(self.ms(), "$", f"sysctl {name}={value}")
        self.host.write(f"/proc/sys/net/ipv4/vs/{name}", value)

    def zero(self):
        if self.seed % STATISTICS == 0:
            return  # the kernel's counters come back with what the last two seconds brought
        self.command("ipvsadm -Z" + self.random.choice(["", " " + self.some_service()]))

    def timeouts(self):
        pick = self.random
        self.command("ipvsadm --set " + " ".join(str(pick.choice([0, 3, 4])) for _ in range(3)))

    # -- packets

    def one(self, who, kind, source, destination):
        size = self.random.choice([0, 0, 0, 10, 100, 1000])
        began = self.ms()
        answer = self.host.send(who, kind, source, destination, size)
        print(began, ">", who, kind, size, source, destination, answer)
        return answer

    def client_packet(self):
        pick = self.random
        if self.flows and self.chance(0.6):
            flow = pick.choice(self.flows[-8:])
        else:
            key = self.some_service()
            port = key.split(":")[-1]
            if port == "0" or self.chance(0.03):
                port = pick.choice(["80", "8080", "5000"])
            flow = [key[:2], f"10.0.0.1{pick.randint(0, self.clients)}:{pick.choice([2000, 2001, 2002, 2003])}",
                    f"{VIP}:{port}", None]
            if self.chance(0.02):
                flow[1] = flow[1].split(":")[0] + ":20"
            known = [f for f in self.flows if f[:3] == flow[:3]]
            if known:
                flow = known[0]
            else:
                self.flows.append(flow)
        if flow[0] == "-u":
            kind = "udp"
        else:
            kind = pick.choice(["S", "S", "S", "A", "A", "PA", "FA", "FA", "R", "SA"]) if flow[3] else \
                pick.choice(["S"] * 12 + ["A", "FA", "R", "SA", "PA", "F"])
        answer = self.one("c", kind, flow[1], flow[2])
        if answer[0] == "r" and answer[1:].isdigit():
            flow[3] = f"10.1.0.1{answer[1:]}"

    def server_packet(self):
        pick = self.random
        flows = [f for f in self.flows if f[3]]
        if not flows:
            return self.client_packet()
        flow = pick.choice(flows[-8:])
        ports = [flow[2].split(":")[1]] * 4 + ["8080"]
        kind = "udp" if flow[0] == "-u" else pick.choice(["SA", "SA", "SA", "A", "PA", "FA", "FA", "R"])
        self.one("r", kind, f"{flow[3]}:{pick.choice(ports)}", flow[1])

    def connect(self):
        """A whole handshake, and sometimes the end."""
        self.client_packet()
        flow = self.flows[-1]
        if flow[0] == "-u" or not flow[3]:
            return
        source = f"{flow[3]}:{flow[2].split(':')[1]}"
        self.one("c", "S", flow[1], flow[2])
        self.one("r", "SA", source, flow[1])
        self.one("c", "A", flow[1], flow[2])
        if self.chance(0.4):
            self.one("c", "FA", flow[1], flow[2])
            self.one("r", "FA", source, flow[1])
            self.one("c", "A", flow[1], flow[2])

    def sleep(self):
        time.sleep(self.random.choice([0.5, 1.5, 2.5, 3.5]))

    def settle(self):
        """The kernel's timers are late by up to a quarter of a second: what is about to end, ends."""
        while any(line.split()[8] == "0" for line in open("/proc/net/ip_vs_conn").readlines()[1:]):
            time.sleep(0.02)

    # -- what there is

    def state(self):
        print(self.ms(), ". state")
        with open("/proc/net/ip_vs") as file:
            rows = [line.split() for line in file][3:]
        groups = []
        for row in rows:
            if row[0] == "->":
                groups[-1].append(" ".join([endpoint(row[1]), *row[3:6]]))
            else:
                groups.append([f"{row[0]} {endpoint(row[1])} {row[2]}"])
        for group in sorted(groups):
            print("\n".join("| " + row for row in group))
        with open("/proc/net/ip_vs_conn") as file:
            rows = [line.split() for line in file][1:]
        rows = [(proto, endpoint(c + ":" + cp), endpoint(v + ":" + vp), endpoint(d + ":" + dp), state, secs)
                for proto, c, cp, v, vp, d, dp, state, secs, *_ in rows]
        for row in sorted(rows):
            print("|", *row)

    def listing(self, name, *commands):
        print(self.ms(), ".", name)
        for command in commands:
            for line in run(command).stdout.splitlines():
                print("|", line)

    def steps(self, timed):
        """What happens how often."""
        return [(30, self.client_packet), (18, self.server_packet), (8, self.connect), (2, self.add_service),
                (2, self.edit_service), (5, self.add_server), (5, self.edit_server), (3, self.delete_server),
                (1, self.delete_service), (4, self.switch), (1, self.zero), (2, self.state), (2 if timed else 0, self.sleep),
                (1 if timed else 0, self.timeouts)]

    def play(self):
        pick = self.random
        print("#", self.seed)
        self.themes = pick.sample(SCHEDULERS, pick.randint(1, 3))
        self.persistent = pick.choice([0, 0, 0.3, 0.8])
        self.limited = pick.choice([0, 0, 0.3, 0.8])
        self.methods = pick.choice([["-m"], ["-m"], ["-g"], ["-m", "-g"]])
        self.clients = pick.choice([1, 3, 5, 9])
        self.keys = pick.sample(self.KEYS, pick.randint(1, 3))
        timed = self.chance(0.35)
        if timed:
            self.timeouts()
        self.command(OTHER)
        for _ in self.keys:
            self.add_service()
        for key in sorted(self.services):
            for _ in range(pick.randint(1, 4)):
                self.add_server(key)
        weights, actions = zip(*self.steps(timed))
        for _ in range(pick.randint(30, 70)):
            self.settle()
            pick.choices(actions, weights)[0]()
        self.state()
        self.listing("listing", "ipvsadm -Ln", "ipvsadm -Sn")
        if self.seed % STATISTICS == 0:
            time.sleep(4.2)
            self.listing("statistics", "ipvsadm -Ln --stats --exact")
        self.host.close()


class Sctp(History):
    """The same with SCTP: chunks that fit now and then, and others. What there is, is looked at often: every
    packet may be one that moves the state."""

    KEYS = [f"--sctp-service {VIP}:36412", f"--sctp-service {VIP}:2905", f"--sctp-service {VIP}:0"]
    SWITCHES = [("conn_reuse_mode", [0, 1]), ("expire_nodest_conn", [0, 1]), ("sloppy_sctp", [0, 1]),
                ("nat_icmp_send", [0, 1]), ("sloppy_tcp", [0, 1])]
    # What a client and a server send one after the other when nothing is out of order.
    OPENING = [("c", "INIT"), ("r", "INIT_ACK"), ("c", "COOKIE_ECHO"), ("r", "COOKIE_ACK")]
    CLOSING = [("c", "SHUTDOWN"), ("r", "SHUTDOWN_ACK"), ("c", "SHUTDOWN_COMPLETE")]

    def steps(self, timed):
        return [(40, self.client_packet), (30, self.server_packet), (12, self.connect), (1, self.add_server),
                (1, self.edit_server), (1, self.delete_server), (3, self.switch), (1 if timed else 0, self.sleep)]

    def one(self, who, kind, source, destination):
        began = self.ms()
        answer = self.host.send(who, kind, source, destination, 0)
        print(began, ">", who, kind, 0, source, destination, answer)
        if self.chance(0.6):
            self.state()
        return answer

    def kind(self, opens):
        pick = self.random
        if opens and self.chance(0.8):
            return "INIT"
        if self.chance(0.1):
            return pick.choice(["COOKIE_ECHO+ABORT", "COOKIE_ACK+ABORT", "COOKIE_ECHO+DATA", "DATA+ABORT", "SACK+ABORT"])
        return pick.choice(CHUNKS + ["INIT"] * 2 + ["COOKIE_ECHO", "COOKIE_ACK"])

    def client_packet(self):
        pick = self.random
        if self.flows and self.chance(0.7):
            flow = pick.choice(self.flows[-4:])
        else:
            key = self.some_service()
            port = key.split(":")[-1]
            port = pick.choice(["36412", "2905"]) if port == "0" else port
            flow = ["-s", f"10.0.0.1{pick.randint(0, self.clients)}:{pick.choice([2000, 2001])}", f"{VIP}:{port}", None]
            known = [f for f in self.flows if f[:3] == flow[:3]]
            if known:
                flow = known[0]
            else:
                self.flows.append(flow)
        self.client_sends(flow, self.kind(not flow[3]))

    def client_sends(self, flow, kind):
        answer = self.one("c", kind, flow[1], flow[2])
        if answer[0] == "r" and answer[1:].isdigit():
            flow[3] = f"10.1.0.1{answer[1:]}"

    def server_packet(self):
        flows = [f for f in self.flows if f[3]]
        if not flows:
            return self.client_packet()
        flow = self.random.choice(flows[-4:])
        self.one("r", self.kind(False), f"{flow[3]}:{flow[2].split(':')[1]}", flow[1])

    def connect(self):
        """As far as it gets."""
        if not self.flows:
            return self.client_packet()
        flow = self.random.choice(self.flows[-4:])
        steps = self.OPENING + self.random.choice([[], self.CLOSING, [("r" if w == "c" else "c", k) for w, k in self.CLOSING]])
        for who, kind in steps[:self.random.randint(1, len(steps))]:
            if who == "c":
                self.client_sends(flow, kind)
            elif flow[3]:
                self.one("r", kind, f"{flow[3]}:{flow[2].split(':')[1]}", flow[1])


def endpoint(text):
    address, port = text.split(":")
    return socket.inet_ntoa(bytes.fromhex(address)) + ":" + str(int(port, 16))


kind = Sctp if sys.argv[3:] == ["sctp"] else History
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    kind(seed).play()
