"""Asks DNS servers in the ways that resolvers do, and says who answered what.

    ask.py METHOD NAME SERVER...

connected: a socket for each server, as Go's resolver has them: connect, write, read
one:       one unconnected socket for all, as musl's has it: all are asked, then all answers read
msg:       the same with sendmsg() and recvmsg()
tcp:       a connection to each
bound:     a socket bound to the interface `up0`
resolved:  a socket with IP_UNICAST_IF, bound to `up0` while it connects: systemd-resolved's way to a
           server of a link
"""
import os, socket, struct, sys

IP_UNICAST_IF, SO_BINDTODEVICE, SO_BINDTOIFINDEX = 50, 25, 62


def query(name):
    """A question for A records, under a random id."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return os.urandom(2) + struct.pack(">5H", 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def outcome(asked, reply):
    """The first address of a reply, or its code."""
    assert reply[:2] == asked[:2], "an answer to another question"
    _, flags, _, answers, _, _ = struct.unpack(">6H", reply[:12])
    if answers == 0:
        return "rcode%d" % (flags & 15)
    return socket.inet_ntoa(reply[-4:]) if reply[:12][10:12] == b"\0\0" else "?"


def family(server):
    return socket.AF_INET6 if ":" in server else socket.AF_INET


def say(server, peer, asked, reply):
    print("asked %s peer %s answer %s" % (server, peer, outcome(asked, reply)), flush=True)


def each(method, name, servers):
    for server in servers:
        kind = socket.SOCK_STREAM if method == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(family(server), kind)
        sock.settimeout(5)
        asked = query(name)
        if method == "bound":
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"up0")
        if method == "resolved":
            index = socket.if_nametoindex("up0")
            sock.setsockopt(socket.IPPROTO_IP, IP_UNICAST_IF, struct.pack("!I", index))
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, index)
        sock.connect((server, 53))
        if method == "resolved":
            sock.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, 0)
        if method == "tcp":
            sock.sendall(struct.pack(">H", len(asked)) + asked)
            stream = sock.makefile("rb")
            reply = stream.read(struct.unpack(">H", stream.read(2))[0])
        else:
            sock.send(asked)
            reply = sock.recv(4096)
        say(server, sock.getpeername()[0], asked, reply)


def together(method, name, servers):
    sock = socket.socket(family(servers[0]), socket.SOCK_DGRAM)
    sock.settimeout(5)
    waiting = {}
    for server in servers:
        asked = query(name)
        waiting[asked[:2]] = server, asked
        if method == "msg":
            sock.sendmsg([asked], [], 0, (server, 53))
        else:
            sock.sendto(asked, (server, 53))
    while waiting:
        if method == "msg":
            reply, _, _, peer = sock.recvmsg(4096)
        else:
            reply, peer = sock.recvfrom(4096)
        assert peer[1] == 53, peer
        server, asked = waiting.pop(reply[:2])
        say(server, peer[0], asked, reply)


method, name, *servers = sys.argv[1:]
(together if method in ("one", "msg") else each)(method, name, servers)
