"""Connects with IORING_OP_CONNECT, by system calls alone."""

import ctypes
import errno
import mmap
import socket
import struct
import sys

SETUP, ENTER = 425, 426
OP_CONNECT, GETEVENTS = 16, 1
SUBMISSIONS, COMPLETIONS, ENTRIES = 0, 0x8000000, 0x10000000

address, port = sys.argv[1], int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)


def syscall(*arguments):
    result = libc.syscall(*(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "io_uring")
    return result


params = ctypes.create_string_buffer(120)
ring = syscall(SETUP, 1, ctypes.addressof(params))
submission = struct.unpack_from("10I", params, 40)
completion = struct.unpack_from("10I", params, 80)
sq = mmap.mmap(ring, submission[6] + 4, offset=SUBMISSIONS)
cq = mmap.mmap(ring, completion[5] + 32, offset=COMPLETIONS)
entries = mmap.mmap(ring, 64, offset=ENTRIES)

sock = socket.socket()
target = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port)
target = ctypes.create_string_buffer(target + socket.inet_aton(address) + bytes(8), 16)
# opcode, flags, ioprio, fd, off (the address's length), addr
struct.pack_into("=BBHiQQ", entries, 0, OP_CONNECT, 0, 0, sock.fileno(), 16, ctypes.addressof(target))
struct.pack_into("=I", sq, submission[6], 0)
struct.pack_into("=I", sq, submission[1], struct.unpack_from("=I", sq, submission[1])[0] + 1)
syscall(ENTER, ring, 1, 1, GETEVENTS, 0, 0)
result = struct.unpack_from("=i", cq, completion[5] + 8)[0]
if result < 0:
    print("error", errno.errorcode[-result])
else:
    sock.sendall(b"ping\n")
    lines = sock.makefile()
    print("first", lines.readline().strip())
    print("echo", lines.readline().strip())
    print("peer", *sock.getpeername())
