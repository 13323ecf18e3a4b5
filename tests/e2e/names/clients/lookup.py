"""Prints the addresses of names, by the C library's resolver."""
import socket, sys

for name in sys.argv[1:]:
    for found in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM):
        print("lookup", name, found[4][0])
