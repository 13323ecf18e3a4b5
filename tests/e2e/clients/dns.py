# dns.py ADDRESS NAME=ADDRESS...: a DNS server that knows these names; a name may have several.
import socket, struct, sys

known = {}
for pair in sys.argv[2:]:
    name, address = pair.split("=")
    known.setdefault(name.encode().lower(), []).append(socket.inet_aton(address))

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    query, client = sock.recvfrom(4096)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]])
        at += 1 + query[at]
    end = at + 5
    addresses = known.get(b".".join(labels).lower())
    wanted = addresses if addresses and query[end - 4 : end] == b"\0\1\0\1" else []
    flags = 0x8180 if addresses else 0x8183
    answer = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4" + one for one in wanted)
    head = query[:2] + struct.pack(">5H", flags, 1, len(wanted), 0, 0)
    sock.sendto(head + query[12:end] + answer, client)
