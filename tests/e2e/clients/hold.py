"""Opens connections to the addresses in turn and holds them all; counts those that said a name."""

import resource
import socket
import sys

count = int(sys.argv[1])
targets = [word.rsplit(",", 1) for word in sys.argv[2:]]
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
held = []
for number in range(count):
    address, port = targets[number % len(targets)]
    try:
        held.append(socket.create_connection((address, int(port)), timeout=30))
    except OSError as error:
        print("failed after", number, error)
        break
said = sum(bool(sock.makefile().readline().strip()) for sock in held)
print("held", said)
