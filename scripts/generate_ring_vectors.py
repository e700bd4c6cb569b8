#!/usr/bin/env python3
"""Makes crates/ring/tests/data/nutcracker-0.5.0.txt: which server a real twemproxy gives each key to.

Starts seven real Redis servers and a real nutcracker, sets 2000 keys through every combination of server list,
distribution and hash, and looks on which server each key is. Needs Debian's `nutcracker` (0.5.0) and `redis-server`,
and the addresses and ports below free; unnamed servers stand on the ring as host:port, so these are part of the vectors.

    python3 scripts/generate_ring_vectors.py

The keys are not in the file: `keys()` below and in crates/ring/tests/vectors.rs make them by the same rule.
"""

import pathlib
import socket
import subprocess
import sys
import tempfile
import time

OUTPUT = pathlib.Path(__file__).parent.parent / "crates/ring/tests/data/nutcracker-0.5.0.txt"
HASHES = "one_at_a_time md5 crc16 crc32 crc32a fnv1_64 fnv1a_64 fnv1_32 fnv1a_32 hsieh murmur jenkins".split()
DISTRIBUTIONS = ["ketama", "modula"]
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
KEYS = 2000

# A key that is the text of a point hashes, by md5, to exactly that point.
POINTS = [b"127.0.0.1:23001", b"127.0.0.1:23002", b"s9", b"node7", b"/tmp/understudy-ring-a.sock:"]

# Seven servers: address, port, unix socket. An entry of a list names one of them by its number.
SERVERS = [
    ("127.0.0.1", 23001, "/tmp/understudy-ring-a.sock"),
    ("127.0.0.1", 23002, "/tmp/understudy-ring-b.sock"),
    ("127.0.0.1", 23003, "/tmp/understudy-ring-c.sock"),
    ("127.0.0.2", 11211, None),
    ("127.0.0.3", 11211, None),
    ("127.0.0.1", 2306, None),
    ("127.0.0.10", 23007, None),
]

# Name, hash tag, entries (server number, "tcp" or "unix", weight, name on the ring or None). Orders are mixed on purpose.
LISTS = [
    ("two-unnamed", None, [(0, "tcp", 1, None), (1, "tcp", 1, None)]),
    ("weights", "{}", [(2, "tcp", 5, None), (0, "tcp", 1, None), (1, "tcp", 2, None)]),
    ("named", "$$", [(0, "tcp", 1, "s10"), (1, "tcp", 1, "beta"), (2, "tcp", 1, "s9"), (5, "tcp", 1, "alpha")]),
    (
        "port-11211",
        "{}",
        [(4, "tcp", 1, None), (3, "tcp", 1, None), (0, "tcp", 1, None), (6, "tcp", 1, "zeta"), (5, "tcp", 2, None)],
    ),
    (
        "seven",
        None,
        [
            (0, "tcp", 10, "node1"),
            (1, "tcp", 20, "node2"),
            (2, "tcp", 30, "node3"),
            (3, "tcp", 3, "node4"),
            (4, "tcp", 7, "node5"),
            (5, "tcp", 1, "node6"),
            (6, "tcp", 100, "node7"),
        ],
    ),
    ("sockets", "{}", [(0, "unix", 1, None), (1, "unix", 2, "named"), (2, "unix", 1, None), (6, "tcp", 1, None)]),
    ("no-points", "{}", [(0, "tcp", 1, None), (1, "tcp", 1000, None)]),
    ("six", "()", [(5, "tcp", 1, None), (3, "tcp", 1, None), (6, "tcp", 1, None), (2, "tcp", 3, None), (1, "tcp", 3, None), (0, "tcp", 3, None)]),
]


def keys():
    """All keys, distinct. `state` is Knuth's 64-bit generator; each draw is its upper 16 bits."""
    state = 20121112

    def draw(below):
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 48) % below

    def random_bytes(length, lowest):
        return bytes(lowest + draw(256 - lowest) for _ in range(length))

    made = []
    for index in range(KEYS):
        number = str(index).encode()
        shape = index % 10
        if index == 0:
            key = b""
        elif shape == 0:
            key = POINTS[index // 10 % len(POINTS)] + b"-" + str(index // 10 // len(POINTS)).encode()
        elif shape == 1:
            key = b"user:{" + str(draw(500)).encode() + b"}:" + number
        elif shape == 2:
            key = number + random_bytes(1 + draw(40), 0)
        elif shape == 3:
            key = random_bytes(1 + draw(24), 128) + number
        elif shape == 4:
            key = number + b":" + random_bytes(200 + draw(500), 0)
        elif shape == 5:
            key = b"empty{}" + number + b"$$()"
        elif shape == 6:
            key = b"}" + number + b"{open$("
        elif shape == 7:
            key = b"$" + random_bytes(1 + draw(6), 128) + b"$(" + str(draw(900)).encode() + b")" + number
        elif shape == 8:
            key = b"{" + random_bytes(1 + draw(3), 0) + b"}" + number
        else:
            key = b"{{" + str(draw(300)).encode() + b"}}{x}" + number
        made.append(key)
    assert len(set(made)) == KEYS
    return made


class Client:
    def __init__(self, address):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        self.socket.connect(address)
        self.reader = self.socket.makefile("rb")

    def send(self, *args):
        parts = [b"*%d\r\n" % len(args)]
        parts += [b"$%d\r\n%s\r\n" % (len(arg), arg) for arg in args]
        self.socket.sendall(b"".join(parts))

    def reply(self):
        line = self.reader.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in b"+:":
            return rest
        if kind == b"$":
            return self.reader.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise RuntimeError(f"unexpected reply {line!r}")

    def call(self, *args):
        self.send(*args)
        return self.reply()


def wait_for(address):
    deadline = time.monotonic() + 10
    while True:
        try:
            return Client(address)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def config(tag, entries):
    """One pool for each distribution and hash, on ports from 23100."""
    text, ports = "", {}
    for distribution in DISTRIBUTIONS:
        for name in HASHES:
            port = 23100 + len(ports)
            ports[distribution, name] = port
            text += f"{distribution}_{name}:\n  listen: 127.0.0.1:{port}\n  redis: true\n  auto_eject_hosts: false\n"
            text += f"  distribution: {distribution}\n  hash: {name}\n"
            if tag:
                text += f'  hash_tag: "{tag}"\n'
            text += "  servers:\n"
            for number, kind, weight, own in entries:
                host, port, path = SERVERS[number]
                where = f"{host}:{port}" if kind == "tcp" else path
                text += f"   - {where}:{weight}{' ' + own if own else ''}\n"
    return text, ports


def place(all_keys, port, backends):
    """Sets all keys through nutcracker and answers with the index of the server that each is on."""
    for backend in backends:
        backend.call(b"FLUSHALL")
    client = wait_for(("127.0.0.1", port))
    for start in range(0, len(all_keys), 100):
        chunk = all_keys[start : start + 100]
        for key in chunk:
            client.send(b"SET", key, b"1")
        for _ in chunk:
            assert client.reply() == b"OK"
    client.socket.close()
    found = {}
    for index, backend in enumerate(backends):
        for key in backend.call(b"KEYS", b"*"):
            assert key not in found
            found[key] = index
    return [found[key] for key in all_keys]


def packed(indexes):
    """Two indexes a letter: 8 * first + second."""
    return "".join(DIGITS[8 * first + second] for first, second in zip(indexes[::2], indexes[1::2]))


def main():
    version = subprocess.run(["nutcracker", "-V"], capture_output=True, text=True).stderr.split("\n")[0]
    assert version == "This is nutcracker-0.5.0", version
    all_keys = keys()
    lines = [
        "# Where nutcracker 0.5.0 (x86-64) puts keys. Made by scripts/generate_ring_vectors.py, which says how to read it.",
        "# list NAME TAG; then its servers as in a nutcracker.yml; then DISTRIBUTION HASH and the places of all keys.",
    ]
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        try:
            for host, port, path in SERVERS:
                own = tempfile.mkdtemp(dir=folder)
                args = ["redis-server", "--bind", host, "--port", str(port), "--save", "", "--dir", own, "--daemonize", "no"]
                args += ["--unixsocket", path] if path else []
                processes.append(subprocess.Popen(args, stdout=subprocess.DEVNULL))
            clients = [wait_for((host, port)) for host, port, _ in SERVERS]
            for name, tag, entries in LISTS:
                text, ports = config(tag, entries)
                path = pathlib.Path(folder) / f"{name}.yml"
                path.write_text(text)
                args = ["nutcracker", "-c", str(path), "-s", "23999", "-a", "127.0.0.1", "-o", f"{folder}/{name}.log"]
                proxy = subprocess.Popen(args)
                processes.append(proxy)
                lines.append(f"list {name} {tag or '-'}")
                servers = text.split("servers:\n")[1].split("\nketama")[0].split("\n")
                lines += [line.strip().removeprefix("- ") for line in servers[: len(entries)]]
                backends = [clients[number] for number, *_ in entries]
                for (distribution, hash_name), port in ports.items():
                    lines.append(f"{distribution} {hash_name} {packed(place(all_keys, port, backends))}")
                proxy.terminate()
                proxy.wait()
                print(f"{name}: {len(ports)} rings", file=sys.stderr)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
    OUTPUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
