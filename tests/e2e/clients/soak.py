"""Holds connections to addresses in turn, talks on them, and replaces some all the time.

COUNT SECONDS, and ADDRESS:PORT=NAME… on standard input. A connection is wrong if its server has
another name or answers something else, and failed if it ends, or is silent for 20 seconds.
"""

import errno
import random
import resource
import selectors
import socket
import sys
import time

OPENING = 200
PATIENCE = 20

count, seconds = int(sys.argv[1]), float(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
targets = []
for line in sys.stdin:
    where, name = line.strip().split("=")
    address, port = where.rsplit(":", 1)
    targets.append(((address, int(port)), name.encode()))
selector = selectors.DefaultSelector()
waiting, held = {}, []
opened = pings = failed = wrong = 0


class Connection:
    def __init__(self):
        global opened
        target, self.name = targets[opened % len(targets)]
        opened += 1
        self.peer, self.seen, self.wanted = target, b"", self.name + b"\n"
        self.sock = socket.socket()
        self.sock.setblocking(False)
        code = self.sock.connect_ex(target)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "connect")
        selector.register(self.sock, selectors.EVENT_READ, self)
        waiting[self] = time.monotonic()

    def ping(self):
        global pings
        pings += 1
        self.seen, self.wanted = b"", b"ping %d\n" % pings
        self.sock.send(self.wanted)
        waiting[self] = time.monotonic()

    def read(self):
        """Whether it has answered in full."""
        piece = self.sock.recv(4096)
        if not piece:
            raise OSError(errno.ECONNRESET, "ended")
        self.seen += piece
        return len(self.seen) >= len(self.wanted)

    def close(self):
        selector.unregister(self.sock)
        self.sock.close()


def attempt(what, connection=None):
    global failed
    try:
        return what()
    except OSError as error:
        failed += 1
        print(error, file=sys.stderr)
        if connection:
            waiting.pop(connection, None)
            if connection in held:
                held.remove(connection)
            connection.close()


def look(timeout):
    global wrong, failed
    for key, _ in selector.select(timeout):
        connection = key.data
        if attempt(connection.read, connection) and waiting.pop(connection, None) is not None:
            if connection.seen != connection.wanted or connection.sock.getpeername() != connection.peer:
                wrong += 1
                print("wrong", connection.peer, connection.seen, file=sys.stderr)
            held.append(connection)
    now = time.monotonic()
    for connection, since in list(waiting.items()):
        if now - since > PATIENCE:
            failed += 1
            print("silent", connection.peer, connection.wanted, file=sys.stderr)
            del waiting[connection]
            connection.close()


def fill():
    while len(waiting) < OPENING and len(waiting) + len(held) < count:
        if attempt(Connection) is None:
            return


while len(held) < count and failed < 100:
    fill()
    look(0.05)
print("held", len(held), flush=True)
until = time.monotonic() + seconds
while time.monotonic() < until and failed < 100:
    for _ in range(min(20, len(held) - 1)):
        at = random.randrange(len(held))
        held[at], held[-1] = held[-1], held[at]
        connection = held.pop()
        if random.random() < 0.2:
            connection.close()
        else:
            attempt(connection.ping, connection)
    fill()
    look(0.01)
print("kept", len(held) + len(waiting), flush=True)
while waiting:
    look(0.05)
for connection in held:
    connection.close()
print("failed", failed, "wrong", wrong, "opened", opened, "pings", pings)
