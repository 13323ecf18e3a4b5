"""Connects as told; prints the error, or the peer's address, what it says first, and its echo."""

import argparse
import errno
import select
import socket
import struct

MPTCP, FASTOPEN_CONNECT, SYN_DATA = 262, 30, 32

parser = argparse.ArgumentParser()
parser.add_argument("address")
parser.add_argument("port", type=int)
parser.add_argument("--bind", metavar="ADDRESS,PORT")
parser.add_argument("--device")
parser.add_argument("--fast-open", choices=["sendto", "connect"])
parser.add_argument("--mptcp", action="store_true")
parser.add_argument("--non-blocking", action="store_true")
parser.add_argument("--v6-only", action="store_true")
options = parser.parse_args()
target = (options.address, options.port)

family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
sock = socket.socket(family, socket.SOCK_STREAM, MPTCP if options.mptcp else 0)
sock.settimeout(15)
if family == socket.AF_INET6:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(options.v6_only))
if options.device:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, options.device.encode())
if options.bind:
    host, port = options.bind.rsplit(",", 1)
    sock.bind((host, int(port)))
if options.fast_open == "connect":
    sock.setsockopt(socket.IPPROTO_TCP, FASTOPEN_CONNECT, 1)


def connect():
    if options.fast_open == "sendto":
        sock.sendto(b"ping\n", socket.MSG_FASTOPEN, target)
    elif options.non_blocking:
        sock.setblocking(False)
        if (code := sock.connect_ex(target)) != errno.EINPROGRESS:
            raise OSError(code, "connect")
        select.select([], [sock], [], 15)
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, "connect")
        sock.settimeout(15)
    else:
        sock.connect(target)
    if options.fast_open != "sendto":
        sock.sendall(b"ping\n")


try:
    connect()
except OSError as error:
    print("error", errno.errorcode.get(error.errno, error))
else:
    lines = sock.makefile()
    print("first", lines.readline().strip())
    print("echo", lines.readline().strip())
    print("peer", *sock.getpeername()[:2])
    print("local", *sock.getsockname()[:2])
    if options.fast_open:
        # The sixth byte of struct tcp_info is tcpi_options.
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        print("syn-data", bool(struct.unpack("6B", info[:6])[5] & SYN_DATA))
